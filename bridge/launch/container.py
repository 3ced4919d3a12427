"""docker.sh for TDengine: `python -m bridge.launch.container`."""

import base64
import json
import sys
import urllib.request

from . import ROOT, Failed, docker, report
from .services import last_lines


class TDengine:
    """What is special about its image."""

    title, variable, folder, data_folder, inner_port = "TDengine", "TDENGINE", ROOT, "/var/lib/taos", 6041
    image, port, native_port = "tdengine/tsdb:3.3.7.0", 6041, 6030
    container, address = "tdengine-perspective", "ws://root:taosdata@localhost:{port}"
    # the name by which its data and native clients know it must be the same in every new container
    options = ("--env", "TAOS_FQDN=localhost")

    def prepare(self):
        pass

    def request(self, port, sql):
        basic = base64.b64encode(b"root:taosdata").decode()
        return urllib.request.Request(
            f"http://127.0.0.1:{port}/rest/sql", sql.encode(), {"Authorization": f"Basic {basic}"}
        )

    def version(self, answer, port):
        """The version in an answer, None when it is none; Failed when the login was refused."""
        try:
            answer = json.loads(answer)
            code = answer["code"]
        except (ValueError, TypeError, KeyError):
            return None
        if code == 0x0357:
            raise Failed(
                "TDengine answers, but refuses root with password taosdata: give the scripts "
                f"TDENGINE_DSN=ws://USER:PASSWORD@localhost:{port}"
            )
        return answer["data"][0][0] if code == 0 else None

    version_query = "SELECT SERVER_VERSION()"

    async def benchmark(self, docker):
        report("taosBenchmark fills supertable meters of database test with 1,000,000 rows in 1,000 subtables")
        command = ["exec", self.container, "taosBenchmark", "-y", "-d", "test", "-t", "1000", "-n", "1000"]
        await docker.must("run taosBenchmark", 900, *command)
        report("\n".join(last_lines(docker.log, 3)))
        report("database test, supertable meters; look at it with")
        sql = "SELECT location, COUNT(*), AVG(voltage) FROM test.meters GROUP BY location"
        report(f"    docker exec {self.container} taos -s '{sql}'")


if __name__ == "__main__":
    sys.exit(docker.main(TDengine()))
