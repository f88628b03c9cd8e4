"""Webhook signatures, checked by Twilio's own Python library.

Standard input is a JSON list of received requests: host, target, form or body, signature, and url if the
receiver knows its configured URL. The environment has AUTH_TOKEN. Finally it prints "… signatures hold".
"""

import json
import os
import sys

from twilio.request_validator import RequestValidator

TOKEN = os.environ["AUTH_TOKEN"]


def holds(call, token=TOKEN):
    url = call["url"] or f"http://{call['host']}{call['target']}"
    content = call["form"] if call["body"] is None else call["body"]
    return RequestValidator(token).validate(url, content, call["signature"])


calls = json.load(sys.stdin)
for call in calls:
    assert holds(call), call
    assert not holds(call, "0" * len(TOKEN)), f"another token: {call}"
    elsewhere = {**call, "target": call["target"] + "x", "url": call["url"] and call["url"] + "/x"}
    assert not holds(elsewhere), f"another address: {call}"
    other = {"form": {**call["form"], "type": "x"}} if call["body"] is None else {"body": call["body"] + " "}
    assert not holds({**call, **other}), f"another value: {call}"
print(len(calls), "signatures hold")
