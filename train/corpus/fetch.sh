#!/bin/bash
# fetch.sh FOLDER: downloads the packages of packages.txt and unpacks what `sbnc-train corpus --folders FOLDER/tree` reads.
# Needs apt with source packages of Debian 12 (deb-src), pip, tar and unzip. Takes about 1 GB of downloads and 5 GB on the disk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/downloads" "$1/tree"
cd "$1"
while read -r registry name version; do
    if [ "$registry" = debian ]; then
        (cd downloads && apt-get source -qq --download-only --only-source --tar-only "$name=$version")
        mkdir -p "tree/$name"
        # A source package may have several archives.
        for archive in downloads/"${name}"_*.orig*.tar.*; do
            [ "${archive%.asc}" = "$archive" ] && tar xf "$archive" -C "tree/$name"
        done
    else
        (cd downloads && pip download -q --no-deps --only-binary :all: "$name==$version")
        unzip -qo "downloads/$name-$version"-*.whl -d "tree/pypi-$name"
    fi
done < <(grep -v '^#' "$here/packages.txt")
