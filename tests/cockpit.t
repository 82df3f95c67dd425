#!/bin/bash
# What must be so of the files of Cockpit's page, without a browser: tests/vm/browse has one.
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
page=$top_srcdir/client/cockpit


# nothing OUTPUT: passes if there is none, and shows it otherwise.
nothing() { printf '%s\n' "$1"; [ -z "$1" ]; }
# Text of devices, users and files must not become elements.
tap_ok 'no script makes HTML, or code, of text' nothing \
	"$(grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|srcdoc' "$page"/*.js)"
tap_ok 'the page has no inline script or style, and nothing from elsewhere' nothing \
	"$(grep -nE '<script>|<style|style="| on[a-z]+="|https?:' "$page/index.html")"
csp=$(sed -n 's/.*"content-security-policy": "\(.*\)".*/\1/p' "$page/manifest.json")
tap_ok 'the page may load nothing but what it names' grep -qF "default-src 'none'" <<<"$csp"
tap_ok '... which is nothing inline, and nothing from elsewhere' nothing "$(grep -E 'unsafe|\*|https?:' <<<"$csp")"

missing=
for module in $(sed -nE "s/.*from '\.\/([a-z]+\.js)'.*/\1/p" "$page"/*.js | sort -u) app.js gpubroker.css manifest.json index.html; do
	[ -e "$page/$module" ] || missing+=" $module"
done
tap_ok 'every module that a script imports is there' nothing "$missing"
missing=
for file in "$page"/*; do
	grep -q "cockpit/${file##*/}" "$top_srcdir/client/client.am" || missing+=" ${file##*/}"
done
tap_ok 'every file of the page is installed' nothing "$missing"
tap_ok 'no script is longer than 400 lines' nothing "$(wc -l "$page"/*.js | awk '$2 != "total" && $1 > 400 { print $2 }')"
tap_ok 'four scripts alone name administrative access' nothing \
	"$(grep -lE 'admin: true|admin: state|superuser' "$page"/*.js | sed 's,.*/,,' | grep -vxE '(admin|app|broker|history)\.js')"
tap_done
