#!/bin/sh
# Runs the lint on the checkout itself: what Bazel copies for a test is not the tree.
set -eu
lint=$(readlink -f "$(dirname "$0")/lint.py")
/usr/bin/python3 "$lint" --self-test
exec /usr/bin/python3 "$lint"
