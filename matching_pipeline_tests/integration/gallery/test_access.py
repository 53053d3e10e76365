"""Who may see the gallery."""

import pytest
from starlette.testclient import TestClient

from matching_pipeline.errors import ConfigurationError
from matching_pipeline_tests.integration.gallery.conftest import Open


def test_a_page_of_another_name_reads_nothing(gallery: TestClient) -> None:
    """A foreign name can lead to this machine's own address."""
    assert gallery.get("/").status_code == 200
    assert gallery.get("/", headers={"Host": "localhost:3001"}).status_code == 200
    assert gallery.get("/", headers={"Host": "evil.example:3001"}).status_code == 403


def test_at_another_address_it_needs_a_password_or_a_proxy(open_gallery: Open) -> None:
    with pytest.raises(ConfigurationError, match="GALLERY_PASSWORD"):
        open_gallery("0.0.0.0")
    with pytest.raises(ConfigurationError, match="set one"):
        open_gallery("0.0.0.0", gallery_password="secret", gallery_user_header="X-User")


def test_the_password_is_asked_for(open_gallery: Open) -> None:
    client = open_gallery("0.0.0.0", gallery_password="secret")
    assert client.get("/").headers["WWW-Authenticate"].startswith("Basic")
    assert client.get("/static/style.css").status_code == 401
    assert client.get("/", auth=("ann", "wrong")).status_code == 401
    assert client.get("/", auth=("ann", "secret")).status_code == 200


def test_a_gallery_takes_the_form_of_another(open_gallery: Open) -> None:
    one, other = (open_gallery("0.0.0.0", gallery_password="secret") for _ in range(2))
    token = one.app.state.gallery.token_of("ann")  # type: ignore[attr-defined]
    form = {"token": token, "queue": "image_ai", "reason": ""}
    answers = [
        gallery.post("/retry", data=form, auth=auth, follow_redirects=False).status_code
        for gallery, auth in ((other, ("ann", "secret")), (other, ("bob", "secret")))
    ]
    assert answers == [303, 403]


def test_the_proxy_names_the_user(open_gallery: Open) -> None:
    client = open_gallery("0.0.0.0", gallery_user_header="X-Forwarded-User")
    assert client.get("/").status_code == 403
    assert client.get("/", headers={"X-Forwarded-User": "ann"}).status_code == 200


def test_no_page_is_kept_or_framed_or_runs_a_foreign_script(gallery: TestClient) -> None:
    headers = gallery.get("/").headers
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_where_the_database_is_away_a_sentence_says_so(open_gallery: Open) -> None:
    away = open_gallery(url="postgresql://nobody@127.0.0.1:1/none").get("/")
    assert away.status_code == 503
    assert "cannot reach Postgres" in away.text
