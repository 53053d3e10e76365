"""`make install` gives uv the indexes that pip is configured with: no file of the repository names one."""

from tools.install import as_uv_calls_it, parsed

LISTED = """\
:env:.extra-index-url='https://two.example/simple\\nhttps://three.example/simple'
:env:.no-color='1'
global.extra-index-url='https://one.example/simple'
global.find-links='/some/wheels /other/wheels'
global.index-url='https://user:word=x@example.org/simple'
global.cert='/etc/ssl/ours.pem'
"""


def test_uv_is_told_what_pip_is_told_and_the_environment_comes_first() -> None:
    assert as_uv_calls_it(parsed(LISTED)) == {
        "UV_INDEX": "https://two.example/simple https://three.example/simple",
        "UV_FIND_LINKS": "/some/wheels,/other/wheels",
        "UV_DEFAULT_INDEX": "https://user:word=x@example.org/simple",
        "SSL_CERT_FILE": "/etc/ssl/ours.pem",
    }


def test_where_pip_has_no_configuration_uv_is_told_nothing() -> None:
    assert as_uv_calls_it(parsed("")) == {}
