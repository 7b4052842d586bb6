"""The command `bff` with a store that it waits for.

Beyond its patience a gateway does without the store and fetches for itself, as it should; tests that count who fetches
must not depend on how busy the machine is.
"""

from bff import cli
from bff.store.redis import RedisTier
from bff.store.sqlite import SqliteTier

for tier in (RedisTier, SqliteTier):
    (tier.__init__.__kwdefaults__ or {})["patience"] = 10.0
cli.main()
