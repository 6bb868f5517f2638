"""On a real kernel: a device that goes or comes is noticed at once, without a poll, through a bind-mounted host root and from a
network namespace of its own, as in a pod; a message that is not the kernel's is not believed; another machine's tree is polled."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.realpath(os.environ.get("CCNODE_BUILD", os.path.join(HERE, "../../build/dev")))
SOON = 20.0  # seconds, for a guest whose machine is busy: the program never looks by itself, and the agent's poll is every 30 s at most


def lay(root):
    """The program and its libraries, where the loader looks for them."""
    program = f"{BUILD}/bin/hotplug_watch"
    os.makedirs(f"{root}/payload")
    shutil.copy(program, f"{root}/payload/")
    for word in subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout.split():
        if word.startswith("/"):
            os.makedirs(os.path.dirname(root + word), exist_ok=True)
            shutil.copy(os.path.realpath(word), root + word)


def check(text):
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("@ ")]
    at = {line[1]: float(line[2]) for line in lines if line[0] == "now"}
    changes = {name: [float(line[2]) for line in lines if line[0] == name and line[1] == "change"] for name in ("pod", "other")}
    polls = {line[0]: int(line[3]) for line in lines if line[1:3] == ["ready", "poll"]}
    print(at, changes, polls)

    def within(begin, end):
        return [t for t in changes["pod"] if begin <= t <= end]

    if ["forged"] not in lines or "end" not in at:
        yield "the scenario did not come to its end"
        return
    if within(at["forge"], at["remove"] - 0.02):
        yield "a forged message was believed"
    for what, then in (("remove", "rescan"), ("rescan", "end")):
        if not within(at[what], min(at[what] + SOON, at[then])):
            yield f"{what} was not noticed within {SOON} s"
    if changes["other"]:
        yield "this kernel's events were taken for those of another machine's tree"
    if polls.get("pod", 0) < 30000 or polls.get("other", 10**6) > 5000:
        yield f"polls {polls}: seldom where events come, often elsewhere"


def main():
    with tempfile.TemporaryDirectory(prefix="ccnode-kernel-") as root:
        lay(root)
        p = subprocess.run([os.path.join(HERE, "run"), "hotplug"], stdout=subprocess.PIPE, text=True, timeout=1700, check=False,
                           env={**os.environ, "KT_ROOT": root, "KT_MEM": os.environ.get("KT_MEM", "768")})
    if p.returncode == 77:
        print("SKIPPED: the reason is above")
        sys.exit(77)
    wrong = list(check(p.stdout)) if p.returncode == 0 else [f"the guest ended with {p.returncode}"]
    if wrong or "Sanitizer" in p.stdout:
        print(p.stdout[-6000:])
    for text in wrong:
        print("WRONG:", text)
    sys.exit(1 if wrong or "Sanitizer" in p.stdout else 0)


main()
