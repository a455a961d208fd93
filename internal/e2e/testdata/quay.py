"""Runs parts of Quay, unmodified, from a folder with Quay's sources: what they
import of the rest of Quay is replaced by objects that take any call.

    quay.py FOLDER api BASE PSK MANIFEST.json     index, reports and state over Quay's client
    quay.py FOLDER features REPORT.json           what Quay makes of a vulnerability report
    quay.py FOLDER worker BASE PSK NOTIFICATION LEVEL
    quay.py FOLDER endpoint PORT PSK              Quay's webhook endpoint

What came of it is one line of JSON; an error ends it with a traceback. Modules
that are missing are named, with the exit code 3.
"""
import contextlib, importlib.abc, importlib.machinery, importlib.util, json, os, sys, types
from unittest.mock import MagicMock

try:
    import authlib, flask, jsonschema, jwt, requests, six  # what Quay's parts need
except ImportError as e:
    print("missing the Python module", e.name)
    sys.exit(3)

import inspect

if "subject" not in inspect.signature(jwt.PyJWT._validate_claims).parameters:
    # Quay is written for PyJWT 2.10; older ones check no subject.
    older = jwt.PyJWT._validate_claims
    jwt.PyJWT._validate_claims = lambda self, payload, options, subject=None, **kw: older(self, payload, options, **kw)

folder, command, args = sys.argv[1], sys.argv[2], sys.argv[3:]
REAL = {
    "util.secscan": "util/secscan/__init__.py", "util.secscan.v4.api": "util/secscan/v4/api.py",
    "util.secscan.validator": "util/secscan/validator.py", "util.security.jwtutil": "util/security/jwtutil.py",
    "util.abchelpers": "util/abchelpers.py",
    "data.secscan_model.datatypes": "data/secscan_model/datatypes.py",
    "data.secscan_model.interface": "data/secscan_model/interface.py",
    "data.secscan_model.secscan_v4_model": "data/secscan_model/secscan_v4_model.py",
    "workers.securityscanningnotificationworker": "workers/securityscanningnotificationworker.py",
    "endpoints.secscan": "endpoints/secscan.py",
}
ROOTS = {"app", "data", "endpoints", "features", "image", "notifications", "peewee", "util", "workers"}


class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, MagicMock(name=self.__name__ + "." + name))
        return getattr(self, name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ROOTS:
            return None
        if name in REAL:
            at = os.path.join(folder, REAL[name])
            where = [os.path.dirname(at)] if at.endswith("__init__.py") else None
            return importlib.util.spec_from_file_location(name, at, submodule_search_locations=where)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())


def stub(name, **kw):
    module = importlib.import_module(name)
    for k, v in kw.items():
        setattr(module, k, v)


class Failure(Exception):
    pass


class Base:
    def extend_processing(self, *_):
        pass


class Layer:
    def __init__(self, digest, uri):
        self.layer_info = types.SimpleNamespace(is_remote=False, blob_digest=digest, compressed_size=None)
        self.blob = types.SimpleNamespace(uri=uri)


class Manifest:
    is_manifest_list, repository = False, None

    def __init__(self, digest):
        self.digest = digest


stub("peewee", OperationalError=type("OperationalError", (Exception,), {}), IntegrityError=type("IntegrityError", (Exception,), {}))
stub("data.registry_model.datatypes", Manifest=Manifest)
stub("workers.queueworker", QueueWorker=Base, JobException=Failure)
passing = lambda *_, **__: (lambda f: f)
stub("endpoints.decorators", anon_allowed=lambda f: f, route_show_if=passing)


def client(base, psk):
    api = importlib.import_module("util.secscan.v4.api")
    uris = types.SimpleNamespace(
        url_for_download=lambda _, blob: blob.uri, headers_for_download=lambda *_: {}
    )
    return api, api.ClairSecurityScannerAPI(base, requests.Session(), uris, jwt_psk=psk or None)


def model(base, psk):
    v4 = importlib.import_module("data.secscan_model.secscan_v4_model")
    m = v4.V4SecurityScanner.__new__(v4.V4SecurityScanner)
    m._secscan_api = client(base, psk)[1]
    return v4, m


if command == "api":
    base, psk, path = args
    api, c = client(base, psk)
    with open(path) as f:
        wanted = json.load(f)
    out = {"state": c.state()}
    manifest = Manifest(wanted["hash"])
    report, state = c.index(manifest, [Layer(l["hash"], l["uri"]) for l in wanted["layers"]])
    out["index"], out["same_state"] = report["success"], state == out["state"]["state"]
    out["index_report"] = c.index_report(wanted["hash"])["success"]
    found = c.vulnerability_report(wanted["hash"])
    out["vulnerabilities"] = len(found["vulnerabilities"])
    out["unknown"] = c.index_report("sha256:" + "0" * 64)
    print(json.dumps(out))
elif command == "features":
    v4 = importlib.import_module("data.secscan_model.secscan_v4_model")
    with open(args[0]) as f:
        features = v4.features_for(json.load(f))
    print(json.dumps({"features": len(features), "vulnerabilities": sum(len(f.Vulnerabilities) for f in features)}))
elif command == "worker":
    base, psk, notification, level = args
    v4, m = model(base, psk)
    w = importlib.import_module("workers.securityscanningnotificationworker")
    told, asked = [], []
    w.registry_model.find_manifests_for_sec_notification = lambda d: asked.append(d) or [types.SimpleNamespace(repository="r")]
    w.registry_model.lookup_secscan_notification_severities = lambda _: [level]
    w.registry_model.tag_names_for_manifest = lambda *_: ["latest"]

    @contextlib.contextmanager
    def batch():
        yield lambda repository, event, data: told.append(data["event_data"] if "event_data" in data else data)

    w.notification_batch = batch
    worker = w.SecurityScanningNotificationWorker()
    worker._secscan_model = m
    worker.process_queue_item({"notification_id": notification})
    left = m.lookup_notification_page(notification)
    print(json.dumps({"manifests": len(asked), "told": len(told), "left": len(left.data or [])}))
elif command == "endpoint":
    port, psk = args
    queued = []

    class Queue:
        alive = staticmethod(lambda name: False)
        put = staticmethod(lambda name, body: print(json.dumps({"queued": json.loads(body)["notification_id"]}), flush=True))

    stub("app", app=types.SimpleNamespace(config={"SECURITY_SCANNER_V4_PSK": psk} if psk else {}), secscan_notification_queue=Queue)
    endpoint = importlib.import_module("endpoints.secscan")
    server = flask.Flask("quay")
    server.register_blueprint(endpoint.secscan, url_prefix="/secscan")
    server.run(port=int(port))
