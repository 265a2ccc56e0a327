"""The table `[monitor]`: each key, each wrong value with its line, and no secret in an error."""

import re
from pathlib import Path

import attrs
import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.config import Config
from kline_trio.config.monitor import MonitorConfig, host_name, split_address
from kline_trio.errors import ConfigError
from kline_trio.monitor.health import Thresholds

ROOT = Path(__file__).parents[1]
STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'
SECRET = "0123abcd-5678-secret"
PUBLIC = 'address = "192.0.2.7:8787"\n'
TLS = 'tls_cert = "c.pem"\ntls_key = "k.pem"\n'


def monitor(text: str) -> MonitorConfig:
    text = f"{STREAMS}[monitor]\n{text}\n"
    return Config.from_text(text, name="recorder.toml", folder=Path("/there")).monitor


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        monitor(text)
    return caught.value.problems


def test_by_default_nothing_is_served_and_nobody_is_alarmed() -> None:
    found = monitor("")
    assert found == MonitorConfig()
    assert (found.address, found.on_change, found.heartbeat_url) == (None, (), None)
    assert not found.is_public
    limits = Thresholds()
    for field in attrs.fields(Thresholds):
        assert getattr(found, field.name) == getattr(limits, field.name)


def test_all_that_can_be_set_is_set() -> None:
    found = monitor(
        'address = "[2001:db8::1]:8787"\ntoken_file = "token"\n'
        'allowed_hosts = ["Recorder", "a.b"]\n'
        'root_path = "/my/recorder"\ntls_cert = "/c.pem"\ntls_key = "k.pem"\ninsecure_http = true\n'
        "per_symbol = true\nsilent_seconds = 60\nabsent_seconds = 0\nstuck_seconds = 0.5\n"
        'free_days = 3\nrecover_seconds = 0\non_change = ["notify", "a b", ""]\n'
        "reload_on_save = true\n"
        f'heartbeat_url = "https://hc.test:8443/{SECRET}?a=b"\n'
    )
    assert found == MonitorConfig(
        address="[2001:db8::1]:8787",
        token_file=Path("/there/token"),
        allowed_hosts=("Recorder", "a.b"),
        root_path="/my/recorder",
        tls_cert=Path("/c.pem"),
        tls_key=Path("/there/k.pem"),
        insecure_http=True,
        per_symbol=True,
        silent_seconds=60.0,
        absent_seconds=0.0,
        stuck_seconds=0.5,
        free_days=3.0,
        recover_seconds=0.0,
        on_change=("notify", "a b", ""),
        reload_on_save=True,
        heartbeat_url=f"https://hc.test:8443/{SECRET}?a=b",
    )
    assert monitor('token_variable = "MY_1"').token_variable == "MY_1"
    assert SECRET not in repr(found)
    assert "notify" not in repr(found)


@pytest.mark.parametrize(
    ("address", "parts", "is_public"),
    [
        ("127.0.0.1:8787", ("127.0.0.1", 8787), False),
        ("127.9.9.9:0", ("127.9.9.9", 0), False),
        ("localhost:65535", ("localhost", 65535), False),
        ("[::1]:8787", ("::1", 8787), False),
        ("0.0.0.0:8787", ("0.0.0.0", 8787), True),
        ("[::]:8787", ("::", 8787), True),
        ("192.168.1.5:8787", ("192.168.1.5", 8787), True),
        ("recorder_1.lan:80", ("recorder_1.lan", 80), True),
    ],
)
def test_an_address_is_a_host_and_a_port(
    address: str, parts: tuple[str, int], *, is_public: bool
) -> None:
    assert split_address(address) == parts
    found = monitor(f'address = "{address}"\ntoken_file = "t"\ninsecure_http = true')
    assert found.address == address
    assert found.is_public == is_public


@pytest.mark.parametrize(
    "address",
    [
        "", "8787", ":8787", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1",
        "127.0.0.1:65536", "127.0.0.1:" + "1" * 5_000, "127.0.0.1:8787/metrics", "127.0.0.1:87 87",
        "http://127.0.0.1:8787", " 127.0.0.1:8787", "127.0.0.1 :8787", "::1:8787", "[::1]", "[]:1",
        "[::1:8787", "::1]:8787", "[127.0.0.1]:1", "[zzz]:1", "a..b:1", ".a:1", "a-:1", "*:8787",
        "r\u00e9corder:1", "\u212aline:1", "127.0.0.1:\u0661", "user@host:1", "a" * 64 + ":1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_named_with_its_line(address: str) -> None:
    [problem] = problems(f'address = "{address}"')
    assert problem.startswith("recorder.toml: monitor.address: ")
    assert "8787" in problem, "it shows what an address looks like"
    assert problem.endswith("(line 4)")


@given(st.text())
def test_an_address_is_taken_or_refused_by_a_value_error(text: str) -> None:
    for address in (text, f"{text}:8787", f"[{text}]:8787"):
        try:
            host, port = split_address(address)
        except ValueError:
            continue
        assert host.isascii()
        assert 0 <= port <= 65_535
        host.encode("idna")


@given(st.ip_addresses())
def test_an_ip_address_has_one_spelling(address: object) -> None:
    assert host_name(str(address).upper()) == str(address)
    assert host_name(f"[{address}]") == str(address)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("address = 8787", "a text in quotes is wanted, not 8787"),
        ("token_file = 5", "a text in quotes is wanted, not 5"),
        ('token_file = ""', "a path is wanted"),
        ("token_variable = 5", "the name of an environment variable is wanted"),
        ('token_variable = "my token"', "the name of an environment variable is wanted"),
        ('allowed_hosts = "recorder"', 'a list of host names is wanted, as ["recorder"], not '),
        ("allowed_hosts = [5]", "a list of host names is wanted"),
        ('allowed_hosts = [""]', "'' is no host name"),
        ('allowed_hosts = ["*"]', "'*' is no host name"),
        ('allowed_hosts = ["recorder:8787"]', "write it without scheme, port and path"),
        ('allowed_hosts = ["http://recorder"]', "write it without scheme, port and path"),
        ('allowed_hosts = ["a", "b/"]', "'b/' is no host name"),
        ('allowed_hosts = ["::1"]', "'::1' is no host name"),
        ("root_path = 5", "a text in quotes is wanted, not 5"),
        ('root_path = "recorder"', "a path such as /recorder is wanted"),
        ('root_path = "/recorder/"', "without a / at its end"),
        ('root_path = "/"', "without a / at its end"),
        ('root_path = "/a//b"', "a path such as /recorder is wanted"),
        ('root_path = "/a b"', "a path such as /recorder is wanted"),
        ('root_path = "/a?b"', "a path such as /recorder is wanted"),
        ('root_path = "/\u00e4"', "a path such as /recorder is wanted"),
        ('insecure_http = "yes"', "true or false is wanted, not 'yes'"),
        ("insecure_http = 1", "true or false is wanted, not 1"),
        ("per_symbol = 0", "true or false is wanted, not 0"),
        ("silent_seconds = 0", "a number of seconds above 0, up to 31,536,000, is wanted, not 0"),
        ("silent_seconds = nan", "a number of seconds above 0"),
        ("absent_seconds = -1", "a number of seconds from 0 to 31,536,000 is wanted, not -1"),
        ("stuck_seconds = 0", "a number of seconds above 0"),
        ("free_days = -1", "a number"),
        ("free_days = inf", "a number"),
        ("recover_seconds = true", "a number of seconds from 0 to 31,536,000 is wanted, not True"),
        ("on_change = []", 'a list of texts is wanted, as ["command", "argument"]'),
        ('on_change = "notify me"', 'a list of texts is wanted, as ["command", "argument"]'),
        ('on_change = [""]', "a list of texts is wanted"),
        ('on_change = ["a\\u0000b"]', "an argument of a command has no zero byte"),
        ('adress = "127.0.0.1:1"', 'unknown key; did you mean "address"?'),
        ('tls_cert = "c.pem"', "monitor.tls_cert: name its tls_key too"),
        ('tls_key = "k.pem"', "monitor.tls_key: name its tls_cert too"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(line: str, words: str) -> None:
    [problem] = problems(f"# a comment\n{line}")
    assert problem.startswith(f"recorder.toml: monitor.{line.split(' ')[0]}: ")
    assert words in problem
    assert problem.endswith("(line 5)")


@pytest.mark.parametrize(
    "line",
    [
        f'on_change = ["curl", "https://hooks.test/{SECRET}", 5]',
        f'on_change = "curl https://hooks.test/{SECRET}"',
        f'on_change = ["curl", "{SECRET}\\u0000"]',
        f'heartbeat_url = ["https://hc.test/{SECRET}"]',
        f'heartbeat_url = "http://hc.test/{SECRET}"',
        f'heartbeat_url = "hc.test/{SECRET}"',
        f'token_variable = "{SECRET}-1"',
        f'heartbeat_url = "https://me:{SECRET}@hc.test/x"',
        f'heartbeat_url = "https://{SECRET}@hc.test"',
        f'heartbeat_url = "https://hc.test:{SECRET}/"',
        f'heartbeat_url = "https://[{SECRET}/"',
        f'heartbeat_url = "https://a..{SECRET}/"',
        f'heartbeat_url = "https://hc\u2100.test/{SECRET}"',
        f'heartbeat_url = "https://hc.test/{SECRET} x"',
        f'heartbeat_url = "https://hc.test/{SECRET}\\n"',
        f'heartbeat_url = "https:///{SECRET}"',
        'heartbeat_url = ""',
        "heartbeat_url = 5",
    ],
)
def test_a_secret_that_is_wrong_is_named_and_not_shown(line: str) -> None:
    [problem] = problems(line)
    assert problem.startswith(f"recorder.toml: monitor.{line.split(' ')[0]}: ")
    assert "is wanted" in problem or "zero byte" in problem
    assert SECRET not in problem
    assert problem.endswith("(line 4)")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("", ["name a token_file, or use 127.0.0.1", "name tls_cert and tls_key, or set insecure"]),
        ('token_file = "t"\n', ["name tls_cert and tls_key, or set insecure_http = true"]),
        (TLS, ["name a token_file"]),
        ("insecure_http = true\n", ["name a token_file"]),
        (f'token_file = "t"\n{TLS}', []),
        ('token_file = "t"\ninsecure_http = true\n', []),
        ('token_variable = "T"\ninsecure_http = true\n', []),
    ],
)
@pytest.mark.parametrize("address", ["192.0.2.7:8787", "0.0.0.0:1", "[::]:1", "recorder:8787"])
def test_other_machines_need_a_token_and_tls(
    settings: str, wanted: list[str], address: str
) -> None:
    text = f'{settings}address = "{address}"'
    if not wanted:
        assert monitor(text).is_public
        return
    found = problems(text)
    assert len(found) == len(wanted)
    for problem, words in zip(found, wanted, strict=True):
        reached = f"recorder.toml: monitor.address: other machines can reach {address}: "
        assert problem.startswith(reached)
        assert words in problem
        assert problem.endswith(f"(line {4 + settings.count(chr(10))})")


def test_all_problems_are_named_at_once() -> None:
    found = problems(PUBLIC + 'free_days = "x"\ntls_key = "k"\n')
    assert [re.findall(r"monitor\.(\w+): .*\(line (\d)\)", one)[0] for one in found] == [
        ("free_days", "5"),
        ("tls_key", "6"),
        ("address", "4"),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "0.0.0.0:1"}, "monitor.address: other machines can reach 0.0.0.0:1"),
        ({"tls_cert": Path("c")}, "monitor.tls_cert: name its tls_key too"),
    ],
)
def test_a_program_is_refused_too(settings: dict[str, object], words: str) -> None:
    good = Config.from_text(STREAMS, name="recorder.toml", folder=Path())
    with pytest.raises(ConfigError, match=words):
        attrs.evolve(good, monitor=MonitorConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "x"}, "MonitorConfig.address: 'x' is no address"),
        ({"allowed_hosts": ("a:1",)}, "MonitorConfig.allowed_hosts: 'a:1' is no host name"),
        ({"allowed_hosts": ["a"]}, "MonitorConfig.allowed_hosts: a tuple of host names is wanted"),
        ({"root_path": "x"}, "MonitorConfig.root_path: 'x': a path such as /recorder"),
        ({"on_change": ("a\0",)}, "MonitorConfig.on_change: an argument of a command"),
        (
            {"on_change": [SECRET]},
            "MonitorConfig.on_change: a tuple of texts is wanted, not",
        ),
        ({"heartbeat_url": f"http://{SECRET}"}, "MonitorConfig.heartbeat_url: an https:// address"),
        ({"token_file": "token"}, "MonitorConfig.token_file: a pathlib.Path, or None, is wanted"),
        ({"insecure_http": 1}, "MonitorConfig.insecure_http: a bool is wanted, not 1"),
    ],
)
def test_a_field_that_a_program_sets_wrong_is_named(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MonitorConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert SECRET not in str(caught.value)


def test_recorder_toml_shows_each_key_with_its_default() -> None:
    text = (ROOT / "recorder.toml").read_text(encoding="utf-8")
    table = text.partition("\n[monitor]\n")[2]
    shown = tomli.loads(table)
    for field in attrs.fields(MonitorConfig):
        assert re.search(rf"^(# )?{field.name} = .*#", table, re.MULTILINE), field.name
        if field.name in shown:
            value = shown[field.name]
            assert (tuple(value) if isinstance(value, list) else value) == field.default
        else:
            assert field.default in (None, ())
    # What is shown as a comment is a good value, too.
    all_on = re.sub(r"^# (\w+ = )", r"\1", table, flags=re.MULTILINE)
    assert monitor(all_on).address == "127.0.0.1:8787"
