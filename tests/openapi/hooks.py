"""Changes most of the requests that Schemathesis generates, so that they reach existing resources.

Generated requests fit the document but name no existing resource, which would only ever be 404. Some are
sent unchanged. The choice depends on the request itself, so that a seed repeats a run.
"""

import json
import os
import re
import zlib

import schemathesis
from hypothesis import strategies as st
from resources import IDENTITY, Resources, new_key, private_key, public_key

with open(os.environ["RESOURCES_FILE"]) as file:
    SEEN = json.load(file)
RESOURCES = Resources(os.environ["SERVER_URL"], os.environ["SERVER_USER"], os.environ["SERVER_PASSWORD"], SEEN)
SERVICE = SEEN["VA"][0]
# The service for verifications.
CODES = SEEN["codes"][0]
KEPT = {IDENTITY}.union(*SEEN.values())
STATUSES = open(os.environ["STATUSES"], "a", buffering=1)

# The kind of a SID by the path segment before it.
KINDS = {"Factors": "YF", "Challenges": "YC", "AccessTokens": "YK", "Webhooks": "YW", "Credentials": "CR"}
KINDS |= {"RateLimits": "RK", "Buckets": "BL", "Attempts": "VL"}
KINDS |= {"Alerts": "NO", "Events": "AE", "Accounts": "AC", "Keys": "SK"}

schemathesis.openapi.format(
    "json-string-map", st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4).map(json.dumps)
)
schemathesis.openapi.format(
    "json-field",
    st.fixed_dictionaries({"label": st.text(min_size=1, max_size=36), "value": st.text(max_size=128)}).map(json.dumps),
)


def chosen(case):
    parts = [case.operation.label, case.path_parameters, case.query, case.body]
    return zlib.crc32(repr([str(part) for part in parts]).encode())


def to_delete(path):
    """Returns path parameters of a new resource of the last kind in this path."""
    parameters = {"ServiceSid": SERVICE, "Identity": IDENTITY, "AccountSid": RESOURCES.account}
    if path.removesuffix(".json").endswith("/Keys/{Sid}"):
        return parameters | {"Sid": RESOURCES.new_api_key()}
    if path.endswith("/Factors/{Sid}"):
        identity = RESOURCES.new_entity(SERVICE)
        return parameters | {"Identity": identity, "Sid": RESOURCES.new_factor(SERVICE, identity)}
    if path.endswith("/Webhooks/{Sid}"):
        service = RESOURCES.new_service()
        return parameters | {"ServiceSid": service, "Sid": RESOURCES.new_webhook(service)}
    if path.endswith("/Credentials/{Sid}"):
        return {"Sid": RESOURCES.new_credential()}
    if "/RateLimits/" in path:
        limit, bucket = RESOURCES.new_rate_limit(SERVICE)
        return parameters | {"RateLimitSid": limit, "Sid": bucket if path.endswith("/Buckets/{Sid}") else limit}
    if path.endswith("/{Country}"):
        service = RESOURCES.new_service()
        return {"ServiceSid": service, "Country": RESOURCES.new_messaging_configuration(service)}
    if path.endswith("/{PhoneNumber}"):
        return {"PhoneNumber": RESOURCES.new_safe_number()}
    if path.endswith("/{Identity}"):
        return parameters | {"Identity": RESOURCES.new_entity(SERVICE)}
    service = RESOURCES.new_service()
    return {"ServiceSid": service, "Sid": service}


def to_find(path, choice):
    """Returns path parameters of existing resources."""
    parameters = {"ServiceSid": SERVICE, "Identity": IDENTITY, "FormType": "form-push"}
    parameters |= {"Country": SEEN["countries"][0], "PhoneNumber": SEEN["numbers"][0]}
    for kind, name in re.findall(r"/(\w+)/{(\w*Sid)}", path):
        sids = SEEN.get(KINDS.get(kind), [SERVICE])
        parameters[name] = sids[choice % len(sids)]
    if path.endswith("/Factors/{Sid}"):
        parameters["Sid"] = SEEN["YF"][choice % 2 * 2]
    if "/Verification" in path:
        parameters["ServiceSid"] = CODES
    if path.endswith("/Verifications/{Sid}"):
        verification = RESOURCES.new_verification(CODES)
        parameters["Sid"] = [verification["sid"], verification["to"]][choice % 2]
    # A challenge allows only three notifications.
    if path.endswith("/Notifications"):
        parameters["ChallengeSid"] = RESOURCES.new_challenge(SERVICE, SEEN["YF"][1])["sid"]
    return parameters


def replace(body, other):
    body.clear()
    body.update(other)


def improve(form, operation_id, choice):
    """Sets values that no generator can know: existing SIDs, and valid keys."""
    if operation_id == "CreateChallenge":
        form["FactorSid"] = SEEN["YF"][1]
        form["Details.Message"] = "Sign in?"
        form.pop("ExpirationDate", None)
    elif operation_id == "UpdateChallenge":
        form["Metadata"] = json.dumps({"choice": str(choice)})
        form.pop("AuthPayload", None)
    elif operation_id == "CreateNotification":
        form["Ttl"] = choice % 301
    elif operation_id == "CreateEntity":
        form["Identity"] = f"user-{choice:08x}"
    elif operation_id == "CreateNewFactor" and choice % 4 == 3:
        form["FactorType"] = "totp"
        form.pop("Binding.Secret", None)
        form.pop("Metadata", None)
    elif operation_id == "CreateNewFactor":
        form["FactorType"] = "push"
        form["Binding.PublicKey"] = public_key(new_key())
        form["Binding.Alg"] = "ES256"
        form.setdefault("Config.AppId", "com.example.app")
        form["Config.NotificationPlatform"] = ["none", "fcm", "apn"][choice % 3]
        form.setdefault("Config.NotificationToken", "registration-token")
        form.pop("Metadata", None)
    elif operation_id == "CreateNewFactorPasskey":
        form["identity"] = f"user-{choice:08x}"
        form["config"] = {
            "relying_party": {"id": "example.com", "name": "Owl Bank", "origins": ["https://example.com"]},
            "authenticator_attachment": ["platform", "cross-platform", "any"][choice % 3],
            "discoverable_credentials": "preferred",
            "user_verification": "required",
        }
    elif operation_id == "UpdatePasskeysFactor":
        replace(form, RESOURCES.new_passkey(SERVICE)[2])
    elif operation_id == "CreateChallengePasskeys":
        replace(form, {"factor_sid": RESOURCES.new_passkey_challenge(SERVICE)[1]})
    elif operation_id == "UpdateChallengePasskeys":
        replace(form, RESOURCES.new_passkey_challenge(SERVICE)[0])
    elif operation_id == "CreateNewKey":
        form["AccountSid"] = RESOURCES.account
        form.pop("KeyType", None)
        form.pop("Policy", None)
    elif operation_id == "UpdateKey":
        form.pop("Policy", None)
    elif operation_id == "CreateRateLimit":
        form["UniqueName"] = f"limit-{choice:08x}"
        form.pop("Description", None)
    elif operation_id in ["CreateBucket", "UpdateBucket"]:
        form |= {"Max": choice % 1_000_000 + 1, "Interval": choice % 86_400 + 1}
    elif operation_id == "CreateMessagingConfiguration":
        letters = [chr(ord("A") + number % 26) for number in (choice, choice // 26)]
        form |= {"Country": "".join(letters), "MessagingServiceSid": "MG" + "0" * 32}
    elif operation_id == "UpdateMessagingConfiguration":
        form["MessagingServiceSid"] = f"MG{choice:032x}"
    elif operation_id == "CreateSafelist":
        form["PhoneNumber"] = f"+49{choice % 10**10:010}"
    elif operation_id == "CreateVerification":
        replace(form, {"To": f"+49{choice % 10**10:010}", "Channel": ["sms", "auto"][choice % 2]})
    elif operation_id == "CreateVerificationCheck":
        replace(form, {"To": RESOURCES.new_verification(CODES)["to"], "Code": f"{choice % 10**6:06}"})
    elif operation_id == "CreateCredential":
        form |= {"Type": "apn", "PrivateKey": private_key(new_key()), "KeyId": "ABC123DEFG", "TeamId": "TEAM123456"}
        form.pop("FriendlyName", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    choice, path = chosen(case), case.operation.path
    deletes = case.method.upper() == "DELETE"
    # Send the rest unchanged, but keep the existing resources: generated requests reuse SIDs from responses.
    is_kept = deletes and not KEPT.isdisjoint(map(str, case.path_parameters.values()))
    if choice % 4 == 0 and not is_kept:
        return
    if case.path_parameters:
        find = to_delete(path) if deletes else to_find(path, choice >> 4)
        for name in case.path_parameters:
            # A factor needs an entity with fewer than twenty factors.
            if name == "Identity" and path.endswith("/Factors") and case.method.upper() == "POST":
                case.path_parameters[name] = f"user-{choice:08x}"
            elif name in find:
                case.path_parameters[name] = find[name]
    # A page number without a token leads to no page.
    if isinstance(case.query, dict) and "PageToken" not in case.query:
        case.query.pop("Page", None)
    if isinstance(case.query, dict) and "AccountSid" in case.query:
        case.query["AccountSid"] = RESOURCES.account
    if isinstance(case.body, dict) and choice % 2 == 1:
        improve(case.body, case.operation.definition.raw["operationId"], choice >> 4)


@schemathesis.hook
def after_call(context, case, response):
    if case.method.lower() == case.operation.method.lower():
        STATUSES.write(f"{case.operation.label} {response.status_code}\n")
