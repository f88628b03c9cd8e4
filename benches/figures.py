"""What benches/run measures: the name of each figure, its unit, its target, and how figures are shown."""

import dataclasses
import json
import pathlib

RECORDED = pathlib.Path(__file__).with_name("recorded.json")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured figure. `better` is `lower`, `higher`, or empty if it only describes the run."""

    key: str
    label: str
    unit: str
    better: str
    target: float | None = None

    def meets_target(self, value):
        return value <= self.target if self.better == "lower" else value >= self.target


SECTIONS = {
    "Full cycles": [
        Figure("disk.cycles_per_s", "SQLite on disk, 32 users", "cycles/s", "higher", 1500),
        Figure("memory.cycles_per_s", "SQLite in memory, 32 users", "cycles/s", "higher"),
        Figure("postgres.cycles_per_s", "PostgreSQL on the same cores, 32 users", "cycles/s", "higher", 900),
        Figure("disk.cpu_ms_per_cycle", "CPU time of the server, SQLite on disk", "ms/cycle", "lower", 1.1),
        Figure("memory.cpu_ms_per_cycle", "CPU time of the server, SQLite in memory", "ms/cycle", "lower"),
        Figure("postgres.cpu_ms_per_cycle", "CPU time of the server, PostgreSQL", "ms/cycle", "lower"),
        Figure("driver.cpu_ms_per_cycle", "CPU time of the driver", "ms/cycle", "lower"),
        Figure("disk.switches_per_request", "Context switches, SQLite on disk", "per request", "lower", 5),
        Figure("postgres.switches_per_request", "Context switches, PostgreSQL", "per request", "lower"),
        Figure("disk.full_p99_ms", "p99 of the slowest request at full load, SQLite on disk", "ms", "lower", 50),
        Figure("disk.half_p99_ms", "p99 of the slowest request at half load, SQLite on disk", "ms", "lower", 10),
        Figure("postgres.full_p99_ms", "p99 of the slowest request at full load, PostgreSQL", "ms", "lower", 50),
        Figure("postgres.half_p99_ms", "p99 of the slowest request at half load, PostgreSQL", "ms", "lower", 10),
    ],
    "The bare parts of a cycle": [
        Figure("parts.es256_ms", "Four ES256 verifications", "ms", "lower"),
        Figure("parts.http_ms", "Five HTTP exchanges with JSON", "ms", "lower"),
        Figure("parts.sqlite_ms", "The statements and two durable transactions on SQLite", "ms", "lower"),
        Figure("parts.sum_ms", "Sum", "ms", "lower"),
        Figure("parts.cpu_ratio", "CPU time of the server per cycle, divided by the sum", "×", "lower", 1.3),
    ],
    "Single requests, SQLite on disk, 32 users": [
        Figure("create.per_s", "Create a challenge", "/s", "higher", 8000),
        Figure("get.per_s", "A device gets a challenge", "/s", "higher", 10000),
        Figure("answer.per_s", "A device answers", "/s", "higher", 4000),
        Figure("list.per_s", "A device lists pending challenges", "/s", "higher"),
        Figure("read.per_s", "A backend reads a challenge", "/s", "higher"),
        Figure("service.per_s", "A backend reads a service", "/s", "higher"),
    ],
    "Pushes, SQLite on disk": [
        Figure("push.with_per_s", "Challenges with a push", "/s", "higher"),
        Figure("push.pushes_per_s", "Pushes received by the provider", "/s", "higher", 2000),
        Figure("push.without_per_s", "Challenges without a push", "/s", "higher"),
        Figure("push.ratio", "Cost of a challenge with its push, divided by one without", "×", "lower", 1.2),
        Figure("push.cpu_ms", "CPU time of the server for a challenge with its push", "ms", "lower"),
        Figure("push.cpu_ms_without", "CPU time of the server for a challenge without a push", "ms", "lower"),
        Figure("push.median_ms", "From the request to the push, 200 challenges/s, median", "ms", "lower"),
        Figure("push.p99_ms", "From the request to the push, 200 challenges/s, p99", "ms", "lower"),
    ],
    "Polling phones, SQLite on disk": [
        Figure("poll.phones", "Phones", "", ""),
        Figure("poll.per_s", "Polls", "/s", ""),
        Figure("poll.core_percent", "CPU time for 1,000 polls/s", "% of a core", "lower", 30),
        Figure("poll.p99_ms", "p99 of a poll", "ms", "lower"),
    ],
    "Memory and start, SQLite on disk": [
        Figure("memory.idle_mib", "Resident memory, idle", "MiB", "lower", 20),
        Figure("memory.full_mib", "Resident memory at full load", "MiB", "lower", 80),
        Figure("soak.minutes", "Duration of a run at half load", "minutes", ""),
        Figure("soak.end_mib", "Resident memory at its end", "MiB", "lower", 80),
        Figure("soak.growth_mib", "Growth after its first minute", "MiB", ""),
        Figure("start.empty_s", "Ready after start, new database", "s", "lower", 0.15),
        Figure("start.filled_s", "Ready after start, database of this run", "s", "lower", 0.15),
    ],
    "Building blocks": [
        Figure("es256.sign_us", "ES256, sign", "µs", "lower"),
        Figure("es256.verify_us", "ES256, verify", "µs", "lower"),
        Figure("es256.device_token_us", "Check of a device token", "µs", "lower"),
        Figure("es256.signed_answer_us", "Check of a signed answer", "µs", "lower"),
        Figure("es256.challenge_json_us", "JSON of a challenge", "µs", "lower"),
        Figure("jwe.seal_us", "Access token, seal", "µs", "lower"),
        Figure("jwe.open_us", "Access token, open", "µs", "lower"),
        Figure("forms.create_challenge_us", "Form of a new challenge", "µs", "lower"),
        Figure("requests.health_us", "Request `/healthz`", "µs", "lower"),
        Figure("requests.unknown_path_us", "Request of an unknown path", "µs", "lower"),
        Figure("requests.service_us", "Request of a service, in memory", "µs", "lower"),
        Figure("requests.challenge_us", "Request of a challenge, in memory", "µs", "lower"),
        Figure("requests.challenge_list_1_us", "List of 1 challenge, in memory", "µs", "lower"),
        Figure("requests.challenge_list_50_us", "List of 50 challenges, in memory", "µs", "lower"),
        Figure("deliveries.claim_64_us", "Claim 64 deliveries, in memory", "µs", "lower"),
        Figure("deliveries.record_64_us", "Record 64 deliveries, in memory", "µs", "lower"),
        Figure("alone.http_request_us", "A bare HTTP exchange with JSON, CPU time", "µs", "lower"),
        Figure("alone.sqlite_cycle_us", "The bare statements of a cycle, CPU time", "µs", "lower"),
    ],
}


def read_recorded():
    """Returns the recorded run; empty if there is none."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def format_value(value):
    """Formats a figure with about three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def tables(figures, recorded):
    """Yields the title and the rows of each section. A row has a label, the figure, its target, and ratios to the
    recorded figure: as measured, and with the speed of this machine eliminated."""
    machine = speed_ratio(figures, recorded)
    for title, section in SECTIONS.items():
        rows = []
        for figure in section:
            value = figures.get(figure.key)
            if value is None:
                continue
            target = ""
            if figure.target is not None:
                sign = "≤" if figure.better == "lower" else "≥"
                mark = "reached" if figure.meets_target(value) else "**missed**"
                target = f"{sign} {format_value(figure.target)}: {mark}"
            rows.append((
                figure.label,
                f"{format_value(value)} {figure.unit}".strip(),
                target,
                *ratios(figure, value, recorded.get(figure.key), machine),
            ))
        if rows:
            yield title, rows


def speed_ratio(figures, recorded):
    """Returns how much slower this machine runs the bare parts than the recorded run did, or `None`."""
    now, then = figures.get("parts.sum_ms"), recorded.get("parts.sum_ms")
    return now / then if now and then else None


def ratios(figure, value, before, machine):
    if not before or not figure.better:
        return "", ""
    ratio = value / before
    if machine is None or figure.unit in ("×", "MiB", "per request"):
        return f"{ratio:.2f}", ""
    return f"{ratio:.2f}", f"{ratio / machine if figure.better == 'lower' else ratio * machine:.2f}"
