"""How long AWS takes, from published figures, so that a recovery measured on the stand-in can be compared.

Off until a test turns it on. What is not here takes on the stand-in what it takes: the guest's own boot
(slower here, under TCG). A new volume's first touch is slow by a limit on what QEMU reads of its snapshot.
"""

import threading
import time

# Requests: (service, what the log line begins with or the action, seconds, source)
REQUESTS = (
    ("ec2", "RunInstances", 1.5, "ec2-boot-bench, Percival 2021: the call"),
    ("ec2", "RegisterImage", 3.0, "1-5 s, unverified"),
    ("ec2", "", 0.15, "an ordinary call over the internet; unverified"),
    ("ebs", "", 0.03, "422-480 MB/s with 16 MiB in flight: flexible-snapshot-proxy's README"),
    ("sts", "", 0.1, "unverified"),
    ("servicequotas", "", 0.15, "unverified"),
)
# Changes of state: (what, seconds, source)
CHANGES = {
    "pending to running": (4.9, "ec2-boot-bench, Percival 2021"),
    "CompleteSnapshot to completed": (30.0, "NixOS waits up to 60 s, coldsnap up to 180 s, AWS promises nothing"),
    "ImportSnapshot": (45 * 60.0, "the seed system, 30 GB: 15 min import, 30 min and more of processing"),
    "a new snapshot is not found": (2.0, "coldsnap #43: up to 2 minutes; usually short"),
}
# MiB/s of a volume's blocks that were never touched, unless it was asked for with a VolumeInitializationRate
FIRST_TOUCH_MIB_S = 5.0  # "~5 MiB/s on first block read", terraform-aws-github-runner #5163
# Quotas: requests a second, enforced as a pace, not as refusals (faults do those)
PACES = {("ebs", "PUT"): 1000.0, ("ebs", "GET"): 1000.0, ("ebs", "POST"): 10.0}


class Latency:
    def __init__(self):
        self.scale = 0.0
        self.lock = threading.Lock()
        self.free_at = {}  # a pace's next free moment

    def set(self, asked, ebs, imports, fleet):
        """{"on": bool, "scale": 1.0}"""
        self.scale = float(asked.get("scale", 1.0)) if asked["on"] else 0.0
        defaults = {"complete": 0.3, "import": 2.0, "visible": 0.0, "launch": 0.0}
        if self.scale:
            names = {"complete": "CompleteSnapshot to completed", "import": "ImportSnapshot",
                     "visible": "a new snapshot is not found", "launch": "pending to running"}
            defaults = {short: CHANGES[name][0] * self.scale for short, name in names.items()}
        ebs.complete_s, ebs.visible_after_s, imports.secs = (defaults[name] for name in
                                                             ("complete", "visible", "import"))
        if fleet:
            fleet.settings["launch_s"] = defaults["launch"]
            fleet.settings["first_touch_mib_s"] = FIRST_TOUCH_MIB_S / self.scale if self.scale else 0.0

    def wait(self, service, method, path, body):
        """As long as a request takes, before it is carried out. Holds no lock meanwhile."""
        if not self.scale:
            return
        action = body.partition(b"Action=")[2].partition(b"&")[0].decode("latin1")
        for name, wanted, secs, _ in REQUESTS:
            if name == service and wanted in ("", action):
                time.sleep(secs * self.scale)
                break
        pace = PACES.get((service, method))
        if pace:
            with self.lock:
                at = max(self.free_at.get((service, method), 0.0), time.monotonic())
                self.free_at[service, method] = at + self.scale / pace
            time.sleep(max(0.0, at - time.monotonic()))
