"""What the two configurations for Apache have in which case; that they work is shown behind Apache."""

from __future__ import annotations

import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

every_site = pytest.mark.parametrize("server", ("apache-proxy", "apache-fcgid"))


def text(server: str, **settings: object) -> str:
    """Of the site."""
    return make(server, Plan(**settings)).files[0].text  # type: ignore[arg-type]


@every_site
def test_a_port_is_opened_unless_debian_has_opened_it(server: str) -> None:
    for listen, host in (("80", "*:80"), ("443", "*:443"), ("127.0.0.1:80", "127.0.0.1:80")):
        site = text(server, listen=listen)
        assert f"\n<VirtualHost {host}>\n" in site
        assert "Listen " not in site
    for listen, host in (("8080", "*:8080"), ("[::1]:8080", "[::1]:8080")):
        site = text(server, listen=listen)
        assert f"\nListen {listen}\n\n<VirtualHost {host}>\n" in site


def test_files_of_apaches_own_come_before_the_application() -> None:
    static = (("/app/static", "/srv/static"), ("/app/static/large", "/mnt/large"), ("/other", "/srv/other"))
    site = text("apache-proxy", root_path="/app", static=static)
    order = [
        'ProxyPass "/app/static/large/" "!"',
        'Alias "/app/static/large/" "/mnt/large/"',
        'ProxyPass "/app/static/" "!"',
        'Alias "/app/static/" "/srv/static/"',
        'ProxyPass "/app/" "unix:',
    ]
    assert [site.index(line) for line in order] == sorted(site.index(line) for line in order)
    assert 'Alias "/other/" "/srv/other/"' in site
    assert 'ProxyPass "/other/"' not in site
    assert "ProxyPass" not in text("apache-fcgid", root_path="/app", static=static)


def test_a_mount_point_is_no_pattern() -> None:
    assert r'RedirectMatch "^/v1\.0$" "/v1.0/"' in text("apache-proxy", root_path="/v1.0")
    assert "RedirectMatch" not in text("apache-proxy")


def test_the_script_and_where_the_files_belong() -> None:
    plan = Plan(app="shop.web:make", factory=True, directory="/srv/shop", python="/srv/shop/.venv/bin/python")
    site, htaccess, script = make("apache-fcgid", plan).files
    assert (site.path, site.executable) == ("/etc/apache2/sites-available/shop-web.conf", False)
    assert (htaccess.path, htaccess.executable) == ("public_html/.htaccess", False)
    assert (script.path, script.executable) == ("/srv/shop/index.fcgi", True)
    assert script.text.startswith("#!/srv/shop/.venv/bin/python\n")
    assert 'serve("shop.web:make", factory=True, threads=1, reload_on_touch=True)' in script.text
    compile(script.text, script.path, "exec")
