"""SPDX 2.3 of an image: our own package and the Debian packages that its libraries come from."""
import hashlib
import json
import os
import re
import subprocess


def query(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def owner(path):
    """dpkg knows a file by the name it was packed under: with or without /usr in front."""
    for name in (path, path.removeprefix("/usr")):
        try:
            return query("dpkg", "-S", name).split(":")[0]
        except subprocess.CalledProcessError:
            continue
    raise SystemExit(f"deploy/image: no Debian package owns {path}: it has no place in the image")


def packages(paths):
    found = {}
    for path in paths:
        found.setdefault(owner(path), []).append(path)
    result = []
    for name in sorted(found):
        version, source = query("dpkg-query", "-W", "-f", "${Version} ${source:Package}\n", name).splitlines()[0].split()
        result.append({"name": name, "version": version, "source": source, "files": sorted(found[name])})
    return result


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def identifier(text):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", text)


def document(image, version, found):
    """Times are left at the epoch: the document is part of the image, and the image is the same twice."""
    listed = [{"SPDXID": "SPDXRef-ccnode", "name": "ccnode", "versionInfo": version, "downloadLocation": "NOASSERTION",
               "filesAnalyzed": False, "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0",
               "copyrightText": "NOASSERTION"}]
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": "SPDXRef-ccnode", "relationshipType": "DESCRIBES"}]
    for package in found:
        listed.append({
            "SPDXID": identifier(package["name"]), "name": package["name"], "versionInfo": package["version"],
            "supplier": "Organization: Debian", "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
            "comment": "; ".join(f"{os.path.basename(f)} sha256:{sha256(f)}" for f in package["files"]),
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                              "referenceLocator": f"pkg:deb/debian/{package['name']}@{package['version']}"}]})
        relations.append({"spdxElementId": "SPDXRef-ccnode", "relatedSpdxElement": identifier(package["name"]),
                          "relationshipType": "DEPENDS_ON"})
    content = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    return json.dumps({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": image,
        "documentNamespace": f"urn:ccnode:spdx:{content}",
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: deploy/image"]},
        "packages": listed, "relationships": relations}, indent=1, sort_keys=True) + "\n"
