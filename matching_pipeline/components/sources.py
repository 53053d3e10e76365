"""The app's own tables, for lineage."""

import dagster as dg

app_tables = [
    dg.AssetSpec(
        "listings",
        group_name="app",
        kinds={"postgres"},
        description="The app's listings; a project is one with type 'project'.",
    ),
    dg.AssetSpec(
        "listing_images",
        group_name="app",
        kinds={"postgres"},
        deps=["listings"],
        description="The app's images of listings; an inserted row queues its analysis.",
    ),
    dg.AssetSpec("products", group_name="app", kinds={"postgres"}, description="The app's products."),
    dg.AssetSpec(
        "product_images",
        group_name="app",
        kinds={"postgres"},
        deps=["products"],
        description="The app's images of products; an inserted row queues its analysis.",
    ),
    dg.AssetSpec(
        "profiles",
        group_name="app",
        kinds={"postgres"},
        description="The app's users: a face matches inside their school, with the opposite gender.",
    ),
    dg.AssetSpec(
        "faces",
        group_name="app",
        kinds={"postgres"},
        deps=["profiles"],
        description="The app's faces, embedded by the app; an inserted row queues its matching.",
    ),
    dg.AssetSpec(
        "jobs",
        group_name="app",
        kinds={"postgres"},
        description="The app's job postings; an active one that is inserted or edited queues its embedding.",
    ),
    dg.AssetSpec(
        "projects",
        group_name="app",
        kinds={"postgres"},
        description="The app's projects with a photo each; a job in the queue asks for product pictures of one.",
    ),
]
