"""docker.sh for ClickHouse: `python -m clickhouse.container`."""

import os
import re
import secrets
import sys
import urllib.request

from bridge.launch import ROOT, Failed, docker, report


class ClickHouse:
    """What is special about its image. The password of user default is made once: a container keeps its own."""

    title, variable, folder, data_folder = "ClickHouse", "CLICKHOUSE", ROOT / "clickhouse", "/var/lib/clickhouse"
    image, port, native_port, inner_port = "clickhouse/clickhouse-server:26.9.6.6", 8123, None, 8123
    container = "clickhouse-perspective"
    # the image's own limit of open files is for servers that need more than most machines give;
    # docker takes the password from the environment: no command line shows it
    options = ("--ulimit", "nofile=65536:65536", "--env", "CLICKHOUSE_USER=default", "--env", "CLICKHOUSE_PASSWORD")
    version_query = "SELECT version()"

    @property
    def address(self):
        return f"clickhouse://default@localhost:{{port}} (--password-file {self.folder}/.password)"

    def prepare(self):
        file = self.folder / ".password"
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        with open(descriptor, "r+") as opened:
            os.fchmod(descriptor, 0o600)
            password = opened.read().strip()
            if not password:
                password = secrets.token_hex(24)
                opened.write(password)
        os.environ["CLICKHOUSE_PASSWORD"] = password

    def request(self, port, sql):
        headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": os.environ["CLICKHOUSE_PASSWORD"]}
        return urllib.request.Request(f"http://127.0.0.1:{port}/", sql.encode(), headers)

    def version(self, answer, port):
        """The version in an answer, None when it is none; Failed when the login was refused."""
        if "AUTHENTICATION_FAILED" in answer or "REQUIRED_PASSWORD" in answer:
            raise Failed(
                "ClickHouse answers, but refuses the password in .password: give the scripts "
                f"CLICKHOUSE_DSN=clickhouse://USER:PASSWORD@localhost:{port}"
            )
        return answer.strip() if re.fullmatch(r"\d+\.[\d.]+\n?", answer) else None

    async def benchmark(self, docker):
        report("filling table test.trades with 1,000,000 rows")
        columns = "now64(9) - toIntervalMillisecond(number) AS timestamp, rand() % 13 AS ticker"
        columns += ", 400 * rand() / 4294967295 AS price"
        create = "CREATE TABLE test.trades ENGINE = MergeTree ORDER BY timestamp AS "
        for sql in (
            "CREATE DATABASE IF NOT EXISTS test",
            "DROP TABLE IF EXISTS test.trades SYNC",
            f"{create} SELECT {columns} FROM numbers(1000000)",
        ):
            if answer := await docker.query(sql, 300):
                raise Failed(f"can't fill test.trades: {answer.splitlines()[0]}")
        answer = await docker.query("SELECT count() FROM test.trades", 60)
        if answer.strip() != "1000000":
            raise Failed(f"test.trades has {answer.strip() or 'no'} rows instead of 1000000")
        sql = "SELECT ticker, count(), avg(price) FROM test.trades GROUP BY ticker"
        report("table test.trades is filled; look at it with")
        report(f"    docker exec -it {self.container} clickhouse-client --ask-password --query '{sql}'")


if __name__ == "__main__":
    sys.exit(docker.main(ClickHouse()))
