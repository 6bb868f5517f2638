"""Every fuzz target has saved inputs, and every folder of saved inputs a target."""

import os
import sys

import sources


def main():
    corpus = os.path.join(sources.ROOT, "tests/fuzz/corpus")
    saved = {name for name in os.listdir(corpus) if os.listdir(os.path.join(corpus, name))}
    targets = {os.path.basename(path)[:-2] for path in sources.files(".c")
               if path.startswith("tests/fuzz/") and b"LLVMFuzzerTestOneInput" in sources.read(path)} - {"replay_main"}
    wrong = [f"tests/fuzz: {name} has no saved input in tests/fuzz/corpus/{name}" for name in sorted(targets - saved)]
    wrong += [f"tests/fuzz/corpus/{name}: no target of that name" for name in sorted(saved - targets)]
    print("\n".join(wrong) if wrong else f"{len(targets)} targets with saved inputs")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
