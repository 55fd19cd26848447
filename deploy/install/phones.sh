#!/bin/sh
# The outside SIP programs of the end-to-end tests: SIPp, baresip with files as its sound, Kamailio as an edge proxy;
# faketime for nodes whose clock is wrong.
set -eu
exec "$(dirname "$0")/apt.sh" faketime=faketime sip-tester=sipp kamailio=kamailio baresip-core=baresip baresip-ffmpeg=-
