#!/bin/sh
# The outside SIP programs of the end-to-end tests: SIPp, baresip with files as its sound, sox for looking at recordings.
set -eu
exec "$(dirname "$0")/apt.sh" sip-tester=sipp baresip-core=baresip baresip-ffmpeg=-
