#!/bin/sh
# Makes the real servers and clients that the tests use present on this machine.
#
# As root on Debian: installs the packages below without letting any service start, and unpacks Cyrus (whose packages
# conflict with Dovecot's) into a folder of its own, $ONEDOMAIN_TEST_TOOLS or .test-tools in the checkout. Anywhere else it
# only says what is missing and which tests will therefore be skipped. Safe to run again; takes well under a second
# when nothing is missing. Always ends with 0: whether a skipped test is a failure is for ONEDOMAIN_CI=1 to say.
set -u

HERE=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
TOOLS=${ONEDOMAIN_TEST_TOOLS:-$(CDPATH= cd -- "$HERE/../.." && pwd)/.test-tools}
CYRUS=$TOOLS/cyrus
POLICY=/usr/sbin/policy-rc.d
PATH=$PATH:/usr/sbin:/sbin

say() { echo "lab: $*"; }
have() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ]; }
have_postgres() { for p in /usr/lib/postgresql/*/bin/initdb; do [ -x "$p" ] && return 0; done; return 1; }
cyrus_libraries() { for d in "$CYRUS"/usr/lib/*-linux-gnu*; do [ -d "$d" ] && echo "$d" && return; done; }
have_cyrus() {
    [ -x "$CYRUS/usr/lib/cyrus/bin/master" ] && [ -x "$CYRUS/usr/lib/cyrus/bin/imapd" ] || return 1
    id cyrus >/dev/null 2>&1 || return 1
    ! LD_LIBRARY_PATH=$(cyrus_libraries) ldd "$CYRUS/usr/lib/cyrus/bin/imapd" "$CYRUS/usr/lib/cyrus/bin/lmtpd" |
        grep -q 'not found'
}

# program or file | Debian package | tests that need it
WANTED='
/usr/lib/dovecot/imap|dovecot-imapd|dovecot
/usr/lib/dovecot/pop3|dovecot-pop3d|dovecot
/usr/lib/dovecot/lmtp|dovecot-lmtpd|dovecot
/usr/lib/dovecot/modules/lib90_sieve_plugin.so|dovecot-sieve|dovecot
postfix|postfix|postfix
smtp-sink|postfix|postfix
mbsync|isync|clients
mutt|mutt|clients
offlineimap|offlineimap3|clients
curl|curl|clients
swaks|swaks|clients
saslpasswd2|sasl2-bin|cyrus
faketime|faketime|clocks
openssl|openssl|TLS
ip|iproute2|namespaces
nc|netcat-openbsd|network
ldd|libc-bin|cyrus
nginx|nginx|bench
/usr/lib/nginx/modules/ngx_mail_module.so|libnginx-mod-mail|bench
'

missing_packages() {
    echo "$WANTED" | while IFS='|' read -r program package _; do
        [ -z "$program" ] || have "$program" || echo "$package"
    done | sort -u
    have_postgres || echo postgresql
}

report() {
    echo "$WANTED" | while IFS='|' read -r program package tests; do
        [ -z "$program" ] || have "$program" ||
            say "missing: $program (Debian package $package); tests that need $tests will be skipped"
    done
    have_postgres || say "missing: PostgreSQL (Debian package postgresql); its tests will be skipped"
    have_cyrus || say "missing: Cyrus in $CYRUS; tests that need cyrus will be skipped"
    [ "$(id -u)" = 0 ] || say "not root: real servers cannot be started; tests that need them will be skipped"
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"
}

# Package lists of a fresh image are absent or point at files that are gone: refreshed once, and only when asked for.
refresh() {
    [ -n "${REFRESHED:-}" ] && return 0
    REFRESHED=yes
    say "refreshing the package lists"
    apt update >"$LOG" 2>&1
}

install_packages() {
    say "installing: $*"
    apt install --no-install-recommends "$@" >"$LOG" 2>&1 && return 0
    refresh
    apt install --no-install-recommends "$@" >"$LOG" 2>&1 && return 0
    say "apt-get could not install them; its last words:"
    tail -n 5 "$LOG"
    return 1
}

# No service may start: the tests start their own servers, in folders and on ports of their own.
hold_services() {
    [ -e "$POLICY" ] && return
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    HELD=yes
}
release_services() { [ -z "${HELD:-}" ] || rm -f "$POLICY"; HELD=; }

fetch_cyrus() {
    rm -f "$WORK"/*.deb
    (cd "$WORK" && apt download cyrus-common cyrus-imapd >"$LOG" 2>&1 && ls cyrus-imapd_*.deb cyrus-common_*.deb >/dev/null)
}

unpack_cyrus() {
    say "unpacking Cyrus into $CYRUS"
    chmod 755 "$WORK" && id _apt >/dev/null 2>&1 && chown _apt "$WORK"
    fetch_cyrus || { refresh; fetch_cyrus; } || { say "apt-get could not download Cyrus"; tail -n 5 "$LOG"; return 1; }
    # Libraries and SASL mechanisms only: a mail transport agent or Perl would pull in what conflicts.
    libraries=$(for deb in "$WORK"/*.deb; do dpkg-deb -f "$deb" Depends; done | tr ',' '\n' |
        sed 's/|.*//; s/(.*//; s/ //g' | grep '^lib.*' | sort -u)
    # shellcheck disable=SC2086
    install_packages $libraries || return 1
    rm -rf "$CYRUS.new" && mkdir -p "$CYRUS.new" || return 1
    for deb in "$WORK"/*.deb; do dpkg -x "$deb" "$CYRUS.new" || return 1; done
    rm -rf "$CYRUS" && mv "$CYRUS.new" "$CYRUS" || return 1
    id cyrus >/dev/null 2>&1 ||
        useradd --system --gid mail --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cyrus
}

main() {
    if [ -z "$(missing_packages)" ] && have_cyrus && [ "$(id -u)" = 0 ]; then
        say "everything the tests need is here"
        return
    fi
    if [ "$(id -u)" != 0 ] || ! have apt-get || ! have dpkg; then
        report
        return
    fi
    WORK=$(mktemp -d) && LOG=$WORK/log
    trap 'release_services; rm -rf "$WORK"' EXIT
    trap 'exit 130' INT TERM
    hold_services
    packages=$(missing_packages)
    # shellcheck disable=SC2086
    [ -z "$packages" ] || install_packages $packages
    have_cyrus || unpack_cyrus
    report
    [ -n "$(missing_packages)" ] || ! have_cyrus || say "done"
}

# Two runs at once (two checkouts, or a test run beside a build) would fight over the package database.
if [ "$(id -u)" = 0 ] && [ -z "${LAB_LOCKED:-}" ] && have flock; then
    LAB_LOCKED=yes exec flock /run/lock/onedomain-lab "$0" "$@"
fi
main
