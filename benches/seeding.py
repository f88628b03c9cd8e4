"""Fills a new database with random entities, factors, challenges, verifications and audit records, for benches/scale."""

import dataclasses
import json
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import time

import deployment

MIGRATIONS = deployment.ROOT / "migrations"
DAY_US = 86_400_000_000
SERVICES = 20
BATCH_ROWS = 20_000

# The header of a P-256 public key in DER, before the 64 bytes of its point.
KEY_HEADER = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")

COLUMNS = {
    "entities": "sid account_sid service_sid identity created_at updated_at",
    "factors": "sid account_sid service_sid entity_sid created_at updated_at factor_type identity friendly_name status",
    "push_factors": "factor_sid account_sid service_sid entity_sid credential_sid token_registered_at public_key app_id "
    "notification_platform",
    "challenges": "sid account_sid service_sid entity_sid factor_sid created_at updated_at expires_at responded_at "
    "factor_type status identity message fields hidden_details answer_digest",
    "verifications": "sid account_sid service_sid recipient recipient_key channel status is_custom sends wrong_checks "
    "expires_at closed_at created_at updated_at",
    "verification_attempts": "sid account_sid service_sid verification_sid recipient recipient_key number_prefix channel "
    "country code_length locale is_converted message_status expires_at created_at updated_at",
    "audit_log": "sid account_sid request_sid created_at actor_type actor event_type resource_sid address data",
}

COUNT_DELETED = (
    "SELECT (SELECT count(*) FROM services WHERE deleted_at IS NOT NULL) "
    "+ (SELECT count(*) FROM entities WHERE deleted_at IS NOT NULL)"
)


@dataclasses.dataclass
class Sizes:
    """How many rows are created. `audit_share` is the share of challenges whose audit records are created."""

    entities: int
    challenges: int
    audit_share: float
    verifications: int


def milliseconds(micros):
    return (micros // 1000).to_bytes(6, "big")


class Rows:
    """Generates rows. Keys begin with their creation time, like those that the server creates."""

    def __init__(self, account_sid, service_sids, sizes, now_us):
        self.account = bytes.fromhex(account_sid[2:])
        self.account_text = account_sid
        # Services differ in size: the first has about a third of all entities, the last about one in a hundred.
        weights = [1 / rank for rank in range(1, len(service_sids) + 1)]
        self.services = random.choices([bytes.fromhex(sid[2:]) for sid in service_sids], weights, k=sizes.entities)
        self.sizes = sizes
        self.now = now_us
        self.owners = [None] * sizes.entities

    def audit(self, created_at, actor_type, actor, event_type, resource, data):
        address = "192.0.2.1" if actor_type == "account" else f"198.51.{actor[-4:-2]}.{actor[-2:]}"
        time_bytes = milliseconds(created_at)
        return (
            time_bytes + os.urandom(10),
            self.account,
            time_bytes + os.urandom(10),
            created_at,
            actor_type,
            actor,
            event_type,
            resource,
            address,
            data,
        )

    def enrollments(self):
        """Yields the entity and the factor of each user, and the audit records of their creation."""
        step = 300 * DAY_US // self.sizes.entities
        at = self.now - 360 * DAY_US
        for number, service in enumerate(self.services):
            at += step
            time_bytes = milliseconds(at)
            entity = time_bytes + os.urandom(10)
            factor = b"\x03" + time_bytes + os.urandom(9)
            self.owners[number] = (entity, factor)
            identity = f"user-{number:08d}"
            key = KEY_HEADER + os.urandom(64)
            yield "entities", (entity, self.account, service, identity, at, at)
            yield "factors", (factor, self.account, service, entity, at, at, "push", identity, "Phone", "verified")
            device = (time_bytes + os.urandom(10), at, key, "com.example.bank", "none")
            yield "push_factors", (factor, self.account, service, entity, *device)
            entity_text = f"YE{entity.hex()}"
            data = json.dumps({"entity_sid": entity_text, "service_sid": f"VA{service.hex()}", "status": "verified"})
            yield "audit_log", self.audit(at, "account", self.account_text, "entity.created", entity_text, data)
            factor_text = f"YF{factor.hex()}"
            yield "audit_log", self.audit(at, "device", factor_text, "factor.verified", factor_text, data)

    def challenges(self):
        """Yields challenges of the last 25 days to random users, oldest first, and their audit records."""
        step = 25 * DAY_US // self.sizes.challenges
        at = self.now - 25 * DAY_US - 2 * 3_600_000_000
        fields = json.dumps([{"label": "Amount", "value": "42.00 EUR"}, {"label": "To", "value": "Jane Doe"}])
        for _ in range(self.sizes.challenges):
            at += step
            chance = random.random()
            number = random.randrange(self.sizes.entities)
            (entity, factor), service = self.owners[number], self.services[number]
            sid = b"\x03" + milliseconds(at) + os.urandom(9)
            status = "approved" if chance < 0.8 else "denied" if chance < 0.85 else "pending"
            answered_at = None if status == "pending" else at + 8_000_000
            yield (
                "challenges",
                (
                    *(sid, self.account, service, entity, factor, at, answered_at or at),
                    *((at // 1_000_000 + 300) * 1_000_000, answered_at, "push", status, f"user-{number:08d}"),
                    *("Do you approve this payment?", fields, '{"ip":"198.51.100.7"}'),
                    None if answered_at is None else os.urandom(32),
                ),
            )
            if random.random() < self.sizes.audit_share:
                text, factor_text = f"YC{sid.hex()}", f"YF{factor.hex()}"
                data = f'{{"service_sid":"VA{service.hex()}","factor_sid":"{factor_text}"}}'
                yield "audit_log", self.audit(at, "account", self.account_text, "challenge.created", text, data)
                if answered_at:
                    event = f"challenge.{status}"
                    yield "audit_log", self.audit(answered_at, "device", factor_text, event, text, data)


    def verifications(self):
        """Yields closed verifications of the last 25 days, oldest first, each with one attempt."""
        if not self.sizes.verifications:
            return
        step = 25 * DAY_US // self.sizes.verifications
        at = self.now - 25 * DAY_US - 2 * 3_600_000_000
        for _ in range(self.sizes.verifications):
            at += step
            service = self.services[random.randrange(self.sizes.entities)]
            time_bytes = milliseconds(at)
            sid, attempt = (time_bytes + os.urandom(10) for _ in range(2))
            country, code = random.choice([("AT", "+43664"), ("DE", "+49151"), ("GB", "+447700")])
            number = f"{code}{random.randrange(10_000_000):07d}"
            is_approved = random.random() < 0.8
            expires_at = at + 600_000_000
            ended_at = at + 20_000_000 if is_approved else expires_at
            status = "approved" if is_approved else "expired"
            times = (expires_at, ended_at, at, ended_at)
            yield "verifications", (sid, self.account, service, number, number, "sms", status, 0, 1, "[]", *times)
            yield (
                "verification_attempts",
                (
                    *(attempt, self.account, service, sid, number, number, number[:-4], "sms", country, 6, "en"),
                    *(int(is_approved), "sent", expires_at, at, ended_at),
                ),
            )


def secondary_indexes(kind):
    """Returns the statements that create the indexes of the filled tables, by the name of the index."""
    text = "".join(file.read_text() for file in sorted((MIGRATIONS / kind).glob("*.sql")))
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    statements = [statement.strip() for statement in "\n".join(lines).split(";")]
    indexes = [statement for statement in statements if statement.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX"))]
    on_filled = [statement for statement in indexes if statement.split(" ON ")[1].split()[0] in COLUMNS]
    return {statement.split(" ON ")[0].split()[-1]: statement for statement in on_filled}


class SqliteSink:
    """Inserts rows into a SQLite file."""

    def __init__(self, data_dir):
        self.connection = sqlite3.connect(data_dir / "countersign.db", isolation_level=None)
        self.indexes = {}
        # A failed seeding is repeated from the beginning, so nothing needs to survive a crash.
        for setting in ["synchronous = OFF", "cache_size = -500000", "temp_store = FILE", "threads = 2"]:
            self.connection.execute(f"PRAGMA {setting}")

    def drop_indexes(self):
        """Drops the indexes until `create_indexes`: building them at the end is several times faster."""
        self.indexes = secondary_indexes("sqlite")
        for name in self.indexes:
            self.connection.execute(f"DROP INDEX {name}")

    def insert(self, table, rows):
        columns = COLUMNS[table].split()
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self.connection.execute("BEGIN")
        self.connection.executemany(sql, rows)
        self.connection.execute("COMMIT")

    def create_indexes(self):
        for sql in self.indexes.values():
            self.connection.execute(sql)

    def count_deleted(self):
        return self.connection.execute(COUNT_DELETED).fetchone()[0]

    def close(self):
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()


def copy_text(value):
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return value.hex() if len(value) == 16 else f"\\\\x{value.hex()}"
    return str(value)


class PostgresSink:
    """Inserts rows into a PostgreSQL database, with `COPY` through `psql`."""

    def __init__(self, url):
        self.url = url
        self.indexes = {}

    def drop_indexes(self):
        """Drops the indexes until `create_indexes`: building them at the end is several times faster."""
        self.indexes = secondary_indexes("postgres")
        self.run(f"DROP INDEX {', '.join(self.indexes)}")

    def run(self, sql, data=None):
        command = ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url]
        done = subprocess.run(
            command, input=data, env=deployment.clean_environment(), stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    def insert(self, table, rows):
        lines = "\n".join("\t".join(map(copy_text, row)) for row in rows)
        self.run(f"COPY {table} ({COLUMNS[table].replace(' ', ', ')}) FROM STDIN", f"{lines}\n")

    def create_indexes(self):
        for sql in self.indexes.values():
            self.run(f"SET maintenance_work_mem = '1GB'; {sql}")

    def count_deleted(self):
        return int(self.run(COUNT_DELETED))

    def close(self):
        self.run("VACUUM ANALYZE")


def open_sink(storage):
    return SqliteSink(pathlib.Path(storage[1])) if storage[0] == "--data-dir" else PostgresSink(storage[1])


def fill(sink, rows, report):
    """Inserts all rows in batches, and calls `report` with the number of challenges so far."""
    batches = {table: [] for table in COLUMNS}
    challenges = 0

    def flush(table):
        if batches[table]:
            sink.insert(table, batches[table])
            batches[table].clear()

    for source in [rows.enrollments(), rows.challenges(), rows.verifications()]:
        for table, row in source:
            batches[table].append(row)
            if len(batches[table]) >= BATCH_ROWS:
                # Factors and challenges refer to entities, push factors to factors, and attempts to verifications.
                for parent in ["entities", "factors", "verifications"]:
                    if table not in ["entities", parent]:
                        flush(parent)
                challenges += len(batches[table]) if table == "challenges" else 0
                flush(table)
                report(challenges)
        for table in COLUMNS:
            flush(table)


def is_empty(storage):
    """Returns whether a storage has no database yet. Only such a storage is filled."""
    if storage[0] == "--data-dir":
        return not pathlib.Path(storage[1]).exists()
    sql = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    command = ["psql", "-XAtqw", "-c", sql, storage[1]]
    done = subprocess.run(command, env=deployment.clean_environment(), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip() == "0"


def seed(binary, storage, account, create_services, sizes):
    """Creates the schema, an account and services with a server, fills the database, and chains the audit records.

    `storage` is `["--data-dir", FOLDER]` or `["--database-url", URL, "--data-dir", FOLDER]`. `create_services` receives
    the URL of a server and returns the SIDs of new services. Exits if the storage already has a database.
    """
    if not is_empty(storage):
        sys.exit(f"{storage[1]} already exists: choose another one, because only a new database is filled")
    began = time.monotonic()

    def note(text):
        print(f"{time.monotonic() - began:7.0f} s  {text}", file=sys.stderr, flush=True)

    migrate = ["--migrate"] if storage[0] == "--database-url" else []
    with deployment.Server(binary, [*storage, *migrate], account=account) as server:
        services = create_services(server.url, SERVICES)
    sink = open_sink(storage)
    sink.drop_indexes()
    rows = Rows(account["COUNTERSIGN_ACCOUNT_SID"], services, sizes, int(time.time() * 1_000_000))
    last = [0]

    def report(challenges):
        if challenges - last[0] >= 500_000:
            last[0] = challenges
            note(f"{challenges:,} challenges")

    fill(sink, rows, report)
    note("all rows inserted, creating indexes")
    sink.create_indexes()
    sink.close()
    note("indexes created, chaining the audit records")
    command = [binary, "audit", "accept", *storage]
    subprocess.run(command, env=deployment.clean_environment() | account, stdout=subprocess.DEVNULL, check=True)
    note("done")
    return services, rows
