"""Checks the manifests that kustomize renders from deploy/kubernetes: manifests.py KUSTOMIZE

The NetworkPolicy must allow the pods the connections that they need and no others, every selector must select its own pods,
and the migration Job must have a valid, unique name for every form of image name.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy/kubernetes"
DIGEST = "sha256:" + "0123456789abcdef" * 4

# Image entries of a kustomization, and the image that the containers must have.
IMAGES = [
    ("newName: registry.example.com/countersign\nnewTag: 0.1.0", "registry.example.com/countersign:0.1.0"),
    ("newName: registry.example.com/countersign\nnewTag: 0.2.0", "registry.example.com/countersign:0.2.0"),
    ("newName: localhost:5000/countersign\nnewTag: 0.1.0", "localhost:5000/countersign:0.1.0"),
    ("newName: localhost:5000/countersign\nnewTag: 0.2.0", "localhost:5000/countersign:0.2.0"),
    ("newName: localhost:5000/team/countersign\ndigest: " + DIGEST, f"localhost:5000/team/countersign@{DIGEST}"),
    ("newName: countersign\ndigest: " + DIGEST, f"countersign@{DIGEST}"),
    ("newName: localhost:5000/countersign\nnewTag: latest", "localhost:5000/countersign:latest"),
    ("newName: countersign\nnewTag: V1.2_Release+Candidate", "countersign:V1.2_Release+Candidate"),
]

# The label that Kubernetes sets on every namespace.
NAMESPACE = "kubernetes.io/metadata.name"

# Other pods as (namespace, labels), and the (direction, port, protocol) that the policy must allow; everything else is refused.
PEERS = [
    ("kube-system", {"k8s-app": "kube-dns"}, {("egress", 53, "UDP"), ("egress", 53, "TCP")}),
    ("kube-system", {"component": "kube-apiserver"}, set()),
    ("database", {"app": "postgres"}, {("egress", 5432, "TCP")}),
    ("ingress", {"app": "ingress-nginx"}, {("ingress", 8080, "TCP")}),
    ("monitoring", {"app": "prometheus"}, {("ingress", 9090, "TCP")}),
    ("default", {"app.kubernetes.io/name": "countersign"}, set()),
]

mistakes = []


def mistake(where, what):
    mistakes.append(f"kubernetes, {where}: {what}")


def render(kustomize, folder):
    output = subprocess.run([kustomize, "build", folder], capture_output=True, text=True)
    if output.returncode != 0:
        sys.exit(f"kustomize build: {output.stderr.strip()}")
    return [document for document in yaml.safe_load_all(output.stdout) if document]


def render_with_image(kustomize, image):
    """Renders the manifests with another entry in `images`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "kubernetes"
        shutil.copytree(MANIFESTS, copy)
        file = copy / "kustomization.yaml"
        options = yaml.safe_load(file.read_text())
        options["images"] = [{"name": "countersign"} | yaml.safe_load(image)]
        file.write_text(yaml.safe_dump(options))
        return render(kustomize, copy)


def render_overlay(kustomize, image):
    """Renders an overlay with its own entry in `images`, as `kustomize edit set image` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = pathlib.Path(folder)
        shutil.copytree(MANIFESTS, overlay / "base")
        options = {"resources": ["base"], "images": [{"name": "registry.example.com/countersign"} | yaml.safe_load(image)]}
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(options))
        return render(kustomize, overlay)


def only(documents, kind):
    found = [document for document in documents if document["kind"] == kind]
    if len(found) != 1:
        sys.exit(f"kubernetes: expected one {kind}, found {len(found)}")
    return found[0]


def selects(selector, labels):
    """Returns whether a label selector selects a pod with these labels; an empty one selects all."""
    unknown = set(selector) - {"matchLabels"}
    if unknown:
        sys.exit(f"kubernetes: this check can't evaluate {unknown} in a selector")
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer, namespace, labels):
    """Returns whether an entry of `from` or `to` applies to a pod of this namespace with these labels."""
    if "ipBlock" in peer or "namespaceSelector" not in peer:
        return "podSelector" in peer and namespace == "countersign" and selects(peer["podSelector"], labels)
    in_namespace = selects(peer["namespaceSelector"], {NAMESPACE: namespace})
    return in_namespace and selects(peer.get("podSelector", {}), labels)


def allowed(policy, namespace, labels):
    """Returns every (direction, port, protocol) that the policy allows between its pods and such a pod."""
    found = set()
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            # A rule without peers applies to all.
            if side not in rule or any(is_peer(peer, namespace, labels) for peer in rule[side]):
                for port in rule["ports"]:
                    found.add((direction, port["port"], port.get("protocol", "TCP")))
    return found


def pod_labels(document):
    return document["spec"]["template"]["metadata"]["labels"]


def check_network_policy(documents):
    policy = only(documents, "NetworkPolicy")
    for kind in ("Deployment", "Job"):
        if not selects(policy["spec"]["podSelector"], pod_labels(only(documents, kind))):
            mistake("NetworkPolicy", f"does not select the pods of the {kind}")
    if sorted(policy["spec"]["policyTypes"]) != ["Egress", "Ingress"]:
        mistake("NetworkPolicy", "must be about both directions")
    for namespace, labels, expected in PEERS:
        found = allowed(policy, namespace, labels)
        if found != expected:
            mistake("NetworkPolicy", f"allows {sorted(found)} with {labels} in {namespace}, expected {sorted(expected)}")


def check_selectors(documents):
    """Checks that the selectors for servers select the servers, and not the migration."""
    deployment = only(documents, "Deployment")
    server, migration = pod_labels(deployment), pod_labels(only(documents, "Job"))
    selectors = {
        "Deployment": deployment["spec"]["selector"],
        "Service": {"matchLabels": only(documents, "Service")["spec"]["selector"]},
        "PodDisruptionBudget": only(documents, "PodDisruptionBudget")["spec"]["selector"],
    }
    for index, constraint in enumerate(deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]):
        selectors[f"topologySpreadConstraints[{index}]"] = constraint["labelSelector"]
    for where, selector in selectors.items():
        if not selects(selector, server) or selects(selector, migration):
            mistake(where, f"{selector} must select the servers and nothing else")
    # The selector is immutable: with another one the Deployment of an older version could not be updated.
    expected = {"app.kubernetes.io/name": "countersign", "app.kubernetes.io/component": "server"}
    if selectors["Deployment"] != {"matchLabels": expected}:
        mistake("Deployment", f"its selector must stay {expected}")


def check_job_names(kustomize):
    names = {}
    for way in (render_with_image, render_overlay):
        for image, expected in IMAGES:
            documents = way(kustomize, image)
            job = only(documents, "Job")
            for document in (job, only(documents, "Deployment")):
                found = document["spec"]["template"]["spec"]["containers"][0]["image"]
                if found != expected:
                    mistake(document["kind"], f"has the image {found}, expected {expected}")
            check_job_name(job["metadata"], expected, names)


def check_job_name(metadata, image, names):
    """Checks that the name is valid, unique for each image and stable; `names` has the names found before."""
    name = metadata["name"]
    # The pods get the name as a label, so it has at most 63 characters (RFC 1123).
    if not re.fullmatch(r"countersign-migrate-[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or len(name) > 63:
        mistake("Job", f"{name} is no valid name (image {image})")
    if names.setdefault(name, image) != image:
        mistake("Job", f"{name} stands for both {names[name]} and {image}; a Job can't be changed")
    if len([other for other in names.values() if other == image]) > 1:
        mistake("Job", f"{name} is another name for the same image, {image}")
    if "config.kubernetes.io" in str(metadata.get("annotations", {})):
        mistake("Job", f"is applied with annotations that are kustomize's own: {metadata['annotations']}")


def main():
    kustomize = sys.argv[1]
    documents = render(kustomize, MANIFESTS)
    check_network_policy(documents)
    check_selectors(documents)
    check_job_names(kustomize)
    if mistakes:
        sys.exit("\n".join(mistakes))
    print(f"{len(PEERS)} peers, {len(IMAGES)} forms of image names")


main()
