"""Exit 0 if the recorder of this container answers that it is alive, else 1.

The address is 127.0.0.1:8787, or that of KLINE_TRIO_HEALTH. The token is in the file that
KLINE_TRIO_TOKEN_FILE names, if there is one.
"""

import http.client
import os
import sys
from pathlib import Path

address = os.environ.get("KLINE_TRIO_HEALTH", "127.0.0.1:8787")
token_file = os.environ.get("KLINE_TRIO_TOKEN_FILE")
try:
    headers = {}
    if token_file:
        headers["Authorization"] = f"Bearer {Path(token_file).read_text(encoding='ascii').strip()}"
    # Not urllib, which would ask a proxy of the environment.
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", "/healthz", headers=headers)
    response = connection.getresponse()
    print(response.status, response.read(2_000).decode(errors="replace").strip())
except (OSError, http.client.HTTPException) as error:
    print(error)
    sys.exit(1)
sys.exit(0 if response.status == http.HTTPStatus.OK else 1)
