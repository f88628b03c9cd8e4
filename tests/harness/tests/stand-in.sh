#!/bin/sh
# A stand-in for the real server: prints its address, then waits for a signal.
case "$*" in
*--refuse*)
    echo "no, thank you" >&2
    exit 3
    ;;
esac
echo "arguments: $*" >&2
echo "account: $COUNTERSIGN_ACCOUNT_SID $COUNTERSIGN_AUTH_TOKEN" >&2
echo "countersign listening on http://127.0.0.1:$$"
exec tail -f /dev/null
