"""Known vulnerabilities of the packages that are installed here, by pip-audit.

Exit status 1 when there is one. Where the advisory service does not answer, it is said plainly that nothing was audited, and that
is no failure: a build must not depend on somebody else's server. `python .ci/audit.py SITE_PACKAGES`
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

_TOOL = "pip-audit>=2.10,<3"
_WITHIN = 300  # seconds


def main(packages: str) -> int:
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        # Apart from what is audited: the tool brings two dozen packages of its own.
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        try:
            subprocess.run([python, "-m", "pip", "install", "-q", _TOOL], check=True, timeout=_WITHIN)
            command = [python, "-m", "pip_audit", "--path", packages, "--format", "json", "--progress-spinner", "off"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False)
            found = json.loads(done.stdout)["dependencies"]
        except (subprocess.SubprocessError, ValueError, KeyError) as error:
            print(f"dependencies: NOT audited: {type(error).__name__}; the advisory service did not answer")
            return 0
    faults = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for package in found
        for fault in package.get("vulns", ())
    ]
    print(f"dependencies: {len(found)} packages audited, {len(faults)} known vulnerabilities", *faults, sep="\n  ")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
