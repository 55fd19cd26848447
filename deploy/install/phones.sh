#!/bin/sh
# The outside SIP programs of the end-to-end tests: SIPp, baresip with files as its sound, sox for looking at recordings;
# faketime for nodes whose clock is wrong.
set -eu
exec "$(dirname "$0")/apt.sh" faketime=faketime sip-tester=sipp baresip-core=baresip baresip-ffmpeg=-
