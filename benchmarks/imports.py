"""How long `import tickdsl` takes, and what the first use of its parts adds.

Measured are the CPU seconds (user and system) of an import in a separate process, without Python's own start: the
minimum of several rounds, since other load on the machine changes them little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

#: What is imported and used, with its target in CPU seconds, if it has one.
CASES = {
    "import tickdsl": 0.1,
    "import tickdsl; tickdsl.check": None,
    "import tickdsl; tickdsl.open_run": None,
    "import tickdsl; tickdsl.run": None,
}


def seconds(code: str) -> tuple[float, bool]:
    """CPU seconds of a piece of code in a fresh process, and whether it loaded torch."""
    program = (
        "import resource, sys\n"
        "def used():\n"
        "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    return usage.ru_utime + usage.ru_stime\n"
        f"start = used()\n{code}\nprint(used() - start, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    time, torch = ran.stdout.split()
    return float(time), torch == "True"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds per case (default: %(default)s)")
    rounds = parser.parse_args().rounds
    for code, target in CASES.items():
        seconds(code)  # fill the caches of compiled modules
        fastest, torch = min(seconds(code) for _ in range(rounds))
        goal = "" if target is None else f"(target {target:.1f} s)"
        print(f"{code:<34} {fastest:6.3f} s  {goal:<15} {'torch loaded' if torch else 'no torch'}")


if __name__ == "__main__":
    main()
