# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One task, as a module has the engine do it: argv has the kind, the options as JSON, and ``--check``. Prints the changes."""

import json
import sys

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import summary
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact

options = json.loads(sys.argv[2])
declared = model.declare(sys.argv[1], options, options.pop("state", "present"), False)
done = converge.converge(declared, transact.RunOptions("/var/lib/netops-underlay", check="--check" in sys.argv))
print("\n".join([*map(summary.line, done.changes), *done.warnings]))
