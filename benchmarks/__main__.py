"""`make bench`: every measurement, on an embedded database of its own."""

import os
import platform

from benchmarks import field_table, image_lane, local_analyzer, provider, queue_lane
from benchmarks.database import fresh_database


def main() -> None:
    print(
        f"On {os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    )
    with fresh_database() as database_url:
        queue_lane.main(database_url)
    with fresh_database() as database_url:
        image_lane.main(database_url)
    with fresh_database() as database_url:
        field_table.main(database_url)
    with fresh_database() as database_url:
        provider.main(database_url)
    print("\n## Precision of the local analyzer")
    local_analyzer.main()


if __name__ == "__main__":
    main()
