#!/bin/sh
# Users, folders and links of the image. Run as root, after packages.sh and runtime.sh.
set -eu

ln -sf /opt/pgkit/runtime/bin/node /usr/local/bin/node
printf '#!/bin/sh\nexec /opt/pgkit/runtime/bin/node /opt/pgkit/bin/pgkit.js "$@"\n' >/opt/pgkit/runtime/bin/pgkit
chmod 755 /opt/pgkit/runtime/bin/pgkit
ln -sf /opt/pgkit/runtime/bin/pgkit /usr/local/bin/pgkit
# What came with the base image and pgkit does not use.
rm -rf /usr/local/lib/node_modules /opt/yarn* /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
  /usr/local/bin/yarn /usr/local/bin/yarnpkg

echo 'pgkit:x:65532:65532:pgkit:/scratch:/usr/sbin/nologin' >>/etc/passwd
echo 'pgkit:x:65532:' >>/etc/group
# initdb wants a name for its user. Of a uid that none of the two lines above is of, entrypoint.sh writes one into /scratch.
sed -i 's/^\(passwd:.*\)$/\1 extrausers/' /etc/nsswitch.conf
rm -rf /var/lib/extrausers
ln -s /scratch/.names /var/lib/extrausers
# Open to any uid, as an emptyDir is.
install -d -m 1777 /scratch
# A server's package makes it the user postgres's; sockets of scratch servers lie in TMPDIR.
rm -rf /var/run/postgresql /var/lib/postgresql /var/log/postgresql
