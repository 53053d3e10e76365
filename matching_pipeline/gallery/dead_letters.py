"""The jobs that failed for good: by reason, and those of one reason."""

from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.forms import Form, back, uuid_of
from matching_pipeline.gallery.rendering import render, sessions_of
from matching_pipeline.queues import client

SHOWN = 100


def dead_letters(request: Request) -> Response:
    queue, reason = request.query_params.get("queue"), request.query_params.get("reason")
    with sessions_of(request).reading() as connection:
        if queue is None or reason is None:
            return render(
                request, "dead_letters.html", reasons=named_rows(connection, "gallery_dead_letters"), jobs=None
            )
        jobs = named_rows(connection, "gallery_failed_jobs", queue=queue, reason=reason, count=SHOWN)
    return render(request, "dead_letters.html", reasons=None, jobs=jobs, queue=queue, reason=reason, shown=SHOWN)


def retry(request: Request, form: Form) -> Response:
    """Makes the jobs pending that the form selects, or all of its reason."""
    queue, reason = form["queue"], form.get("reason")
    with sessions_of(request).writing() as connection:
        if reason is not None and form.get("all"):
            found = named_rows(connection, "gallery_failed_for_reason", queue=queue, reason=reason)
            ids = [row["id"] for row in found]
        else:
            ids = [uuid_of(text) for text in form.all("job")]
        client.retry(connection, queue, ids)
    return back(form)
