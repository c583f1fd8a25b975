#!/bin/bash
# Real containers on one node: pct, the supervisor and liblxc, in namespaces of
# their own. /etc/pve is a plain directory here, /var/lib/lxc, /var/lib/vz and
# /run are empty, the network has one bridge; nothing of it is left behind.
here=$(cd "$(dirname "$0")" && pwd)
build=${top_builddir:-$here/../../build}

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}

if [ "$1" != inside ]; then
    build=$(cd "$build" && pwd) || skip 'no build directory'
    test "$(id -u)" = 0 || skip 'needs root'
    # Its thread of its own keeps pct from unsharing a user namespace; neither
    # pct nor the supervisor has threads to look after.
    grep -q __tsan_init "$build/pct" && skip 'not under the thread sanitizer'
    busybox=$(command -v busybox) || skip 'needs busybox-static'
    ldd "$busybox" >/dev/null 2>&1 && skip 'busybox is not static'
    command -v newuidmap >/dev/null || skip 'needs uidmap'
    test -e /dev/loop-control || skip 'needs loop devices'
    test -e /sys/fs/cgroup/memory/cgroup.procs ||
        test -e /sys/fs/cgroup/cgroup.procs || skip 'needs cgroups'
    unshare -m -n -u -p -f --propagation private true 2>/dev/null ||
        skip 'needs namespaces'
    work=$(mktemp -d) || exit 1
    # A pid namespace: whatever goes wrong, no process stays.
    unshare -m -n -u -p -f --mount-proc --propagation private \
        /bin/bash "$here/test-container.sh" inside "$work" "$build"
    status=$?
    find /sys/fs/cgroup -depth -type d \( -path "*/lxc/$(cat "$work/base")?*" \
        -o -path "*/lxc.monitor/$(cat "$work/base")?*" \) \
        -exec rmdir {} + 2>/dev/null
    rm -rf "$work"
    exit $status
fi

work=$2 build=$3
base=$((90000 + 10#$(date +%N) % 9000))
echo $base >"$work/base"

# ---- the node ---------------------------------------------------------------

set -e
hostname node1
chmod 755 "$work"
mkdir -p "$work"/{lxc,vz/template/cache,run/lock,pve/nodes/node1/lxc} \
    "$work"/pve/nodes/node1/lxc-holds "$work"/{tree,upper}
ln -s nodes/node1 "$work/pve/local"
ln -s nodes/node1/lxc "$work/pve/lxc"
echo root:100000:65536 >"$work/subid"
mkdir -p /etc/pve /var/lib/lxc /var/lib/vz
for pair in lxc:/var/lib/lxc vz:/var/lib/vz run:/run pve:/etc/pve \
    subid:/etc/subuid subid:/etc/subgid; do
    mount --bind "$work/${pair%%:*}" "${pair#*:}"
done
ip link set lo up
ip link add br0 type bridge
ip link set br0 up

# The private programs, where pct looks for them: over what is there.
libexec=$(grep -aoE '/[A-Za-z0-9_./+-]+/pve-lxc-supervise' "$build/pct" |
    head -n 1)
libexec=${libexec%/*}
ancestor=$libexec
while [ ! -d "$ancestor" ]; do
    ancestor=$(dirname "$ancestor")
done
mkdir -p "$work/programs"
cp "$build"/{pct,pve-lxc-supervise,lxcnetaddbr} "$work/programs"
mount -t tmpfs none "$work/upper"
mkdir "$work/upper"/{up,work}
mount -t overlay -o \
    "lowerdir=$ancestor,upperdir=$work/upper/up,workdir=$work/upper/work" \
    none "$ancestor"
mkdir -p "$libexec"
cp "$work"/programs/{pve-lxc-supervise,lxcnetaddbr} "$libexec"
pct=$work/programs/pct

# A tree that ends when it is asked to.
cd "$work/tree"
mkdir -p bin sbin etc proc sys dev tmp root
cp "$(command -v busybox)" bin/busybox
for applet in sh cat echo sleep hostname touch reboot poweroff mount id; do
    ln -s busybox bin/$applet
done
cat >sbin/init <<'INIT'
#!/bin/sh
trap 'exit 0' PWR
while :; do sleep 3600 & wait $!; done
INIT
chmod 755 sbin/init
echo template >etc/hostname
echo 0123456789abcdef0123456789abcdef >etc/machine-id
tar -czf /var/lib/vz/template/cache/tiny.tar.gz .
rm sbin/init
tar -czf /var/lib/vz/template/cache/noinit.tar.gz .
cd /
set +e

# ---- saying what happened ---------------------------------------------------

count=0 failures=0
ok() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
    else
        failures=$((failures + 1))
        echo "not ok $count - $2"
        sed 's/^/# /' "$work/out"
    fi
}

# does NAME STATUS COMMAND...: its status is STATUS; its output is in out.
does() {
    local name=$1 status=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null
    local got=$?
    echo "exit status $got of $*" >>"$work/out"
    test $got = "$status"
    ok $? "$name"
}

# says NAME TEXT: the last output has that line, or part of one.
says() {
    grep -qF -- "$2" "$work/out"
    ok $? "$1"
}

# until COMMAND: it succeeds within 20 s.
until_true() {
    local end=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            return 1
        fi
        sleep 0.05
    done
}

not() {
    ! "$@"
}

# The supervisor of a container is the parent of its init.
supervisor() {
    local init
    init=$(lxc-info -P /var/lib/lxc -n "$1" -pH 2>/dev/null) &&
        [ "$init" -gt 0 ] && awk '/^PPid:/ { print $2 }' "/proc/$init/status"
}

# The groups of a container, beside pid 1 wherever that is.
groups_of() {
    find /sys/fs/cgroup -type d \( -path "*/lxc/$1" -o \
        -path "*/lxc.monitor/$1" \) -print -prune
}

nothing_left() {
    [ -z "$(ip -o link | grep "veth$1")" ] && ! grep -q "/$1/" /proc/mounts &&
        [ -z "$(groups_of "$1")" ] &&
        flock -n "/run/lock/lxc/pve-run-$1.lock" true
}

a=${base}0 b=${base}1 c=${base}2
tiny="local:vztmpl/tiny.tar.gz --memory 64"
net="--net0 name=eth0,bridge=br0"

# ---- a life -----------------------------------------------------------------

does 'create' 0 "$pct" create $a $tiny --rootfs local:0 $net --hostname web.x
does 'config' 0 "$pct" config $a
says 'the volume stands in it' \
    "rootfs: local:$a/subvol-$a-disk-0.subvol,size=0T"
says 'the architecture was detected' 'arch: amd64'
says 'it is unprivileged' 'unprivileged: 1'
grep -qE 'hwaddr=BC:24:11:[0-9A-F:]{8}' /etc/pve/lxc/$a.conf
ok $? 'the interface has an address of ours'
grep -q lock /etc/pve/lxc/$a.conf
ok $((! $?)) 'no lock is left'
tree=/var/lib/vz/images/$a/subvol-$a-disk-0.subvol
[ "$(stat -c %u:%g $tree/bin/busybox)" = 100000:100000 ]
ok $? "the tree belongs to the container's root"
[ "$(cat $tree/etc/hostname)" = web ] && [ ! -s $tree/etc/machine-id ]
ok $? 'it is prepared for its first start'
does 'a second create is refused' 255 "$pct" create $a $tiny --rootfs local:0
says 'naming the node' "CT $a already exists on node 'node1'"

does 'start' 0 "$pct" start $a
does 'status' 0 "$pct" status $a
says 'it runs' 'status: running'
does 'start again' 255 "$pct" start $a
says 'is refused' "CT $a already running"
does 'exec gives the exit status' 7 "$pct" exec $a -- sh -c 'id; hostname; exit 7'
says "the host name is the container's" 'web.x'
if [ -n "$PCT_WRAPPER" ]; then
    # For tests/valgrind.sh: memcheck does not know open_tree(2) and
    # pidfd_send_signal(2), so what mounts or stops cannot run under it.
    for words in list "config $a" "status $a" "start $a" "unlock $a" \
        "destroy $a" "destroy 99" "create $a nothing"; do
        # shellcheck disable=SC2086  # words
        $PCT_WRAPPER "$pct" $words
    done
    does 'destroy' 0 "$pct" destroy $a --force
    echo "1..$count"
    exit
fi
[ "$(ip -o link show veth${a}i0 | grep -c 'master br0')" = 1 ]
ok $? 'its interface is in the bridge'
grep -qsx $((64 << 20)) $(groups_of $a |
    sed 's,$,/memory.limit_in_bytes,;p;s,limit_in_bytes,max,')
ok $? 'its memory is limited'
does 'destroy is refused while it runs' 255 "$pct" destroy $a

first=$(supervisor $a)
sed -i 's/^hostname:.*/hostname: changed/' /etc/pve/lxc/$a.conf
"$pct" exec $a -- reboot -f >/dev/null 2>&1
until_true sh -c "'$pct' exec $a hostname | grep -qx changed"
ok $? 'a reboot from inside starts it with its new configuration'
[ "$(supervisor $a)" = "$first" ]
ok $? 'under the same supervisor'

does 'shutdown' 0 "$pct" shutdown $a --timeout 20
nothing_left $a
ok $? 'nothing of the run is left'
does 'stop of a stopped one' 255 "$pct" stop $a
says 'is refused' "CT $a not running"

# ---- what goes wrong --------------------------------------------------------

does 'start' 0 "$pct" start $a
kill -9 "$(supervisor $a)"
until_true sh -c "'$pct' status $a | grep -q stopped"
ok $? 'it ends with a killed supervisor'
does 'and starts again' 0 "$pct" start $a
for group in $(groups_of $a | grep /lxc/); do
    test -e $group/freezer.state && echo FROZEN >$group/freezer.state
    test -e $group/cgroup.freeze && echo 1 >$group/cgroup.freeze
done
does 'a frozen one stops' 0 timeout 30 "$pct" stop $a
nothing_left $a
ok $? 'nothing of the run is left'

"$pct" start $a >"$work/one" 2>&1 &
one=$!
"$pct" start $a >"$work/two" 2>&1
two=$?
wait $one
[ $(($? == 0)) != $((two == 0)) ]
ok $? 'of two starts at once one wins'
does 'destroy with force' 0 "$pct" destroy $a --force
[ -z "$(ls /var/lib/vz/images /var/lib/lxc /etc/pve/lxc/ \
    /etc/pve/local/lxc-holds | grep "$a")" ]
ok $? 'nothing of the container is left'

does 'create without an init' 0 \
    "$pct" create $b local:vztmpl/noinit.tar.gz --rootfs local:0 $net
does 'its start fails' 255 "$pct" start $b
says 'naming the reason' 'Failed to exec "/sbin/init"'
nothing_left $b
ok $? 'nothing of the try is left'
sed -i 's/br0/br9/' /etc/pve/lxc/$b.conf
does 'a start without its bridge fails' 255 "$pct" start $b
says 'naming the bridge' "bridge 'br9' does not exist"
printf 'lxc.no.such.key: 1\nlxc.kmsg: 1\n' >>/etc/pve/lxc/$b.conf
sed -i 's/br9/br0/' /etc/pve/lxc/$b.conf
does 'a key that is none' 255 "$pct" start $b
says 'is told' 'unable to parse config: lxc.no.such.key: 1'
says 'as one is that the library does not know' \
    'lxc.kmsg: this LXC library does not know the key'
echo 'half a li' >>/etc/pve/lxc/$b.conf
does 'a file with half a line starts nothing' 255 "$pct" start $b
says 'naming the line' "neither 'option: value' nor a comment"
sed -i '$d' /etc/pve/lxc/$b.conf
does 'destroy' 0 "$pct" destroy $b

echo garbage >/var/lib/vz/template/cache/bad.tar.gz
head -c 100000 /var/lib/vz/template/cache/tiny.tar.gz \
    >/var/lib/vz/template/cache/cut.tar.gz
does 'no archive' 255 "$pct" create $b local:vztmpl/bad.tar.gz
says 'is seen at once' 'does not look like a template archive'
does 'half an archive' 255 \
    "$pct" create $b local:vztmpl/cut.tar.gz --rootfs local:0
[ -z "$(ls /var/lib/vz/images /var/lib/lxc /etc/pve/lxc/ \
    /etc/pve/local/lxc-holds | grep "$b")" ]
ok $? 'leaves nothing'

# An archive that tries to write outside of its tree.
mkdir -p "$work/outside" "$work/evil"
chmod 777 "$work" "$work/outside"
ln -s "$work/outside" "$work/evil/etc"
ln -s "$work/outside" "$work/evil/way"
tar -C "$work/evil" -cf /var/lib/vz/template/cache/evil.tar .
rm "$work/evil/way"
mkdir "$work/evil/way"
echo x >"$work/evil/way/out"
tar -C "$work/evil" -rf /var/lib/vz/template/cache/evil.tar ./way/out
for privilege in 0 1; do
    "$pct" create $b local:vztmpl/evil.tar --rootfs local:0 \
        --unprivileged $privilege >"$work/out" 2>&1
    [ -z "$(ls "$work/outside")" ]
    ok $? "a hostile archive writes nothing outside (unprivileged $privilege)"
    "$pct" destroy $b >/dev/null 2>&1
done

# A create that is killed while it unpacks: by its own tar.
cat >"$work/tar" <<'TAR'
#!/bin/sh
exec kill -9 "$(sed -n 's/^PPid:[^0-9]*//p' /proc/$PPID/status)" $PPID
TAR
chmod 755 "$work/tar"
mount --bind "$work/tar" /usr/bin/tar
does 'a create that is killed' 137 "$pct" create $b $tiny --unprivileged 0 \
    --rootfs local:0 --mp0 local:0.05,mp=/data
umount /usr/bin/tar
does 'config' 0 "$pct" config $b
says 'leaves its lock' 'lock: create'
[ "$(ls /var/lib/vz/images/$b | wc -l)" = 2 ]
ok $? 'and its volumes'
does 'destroy is refused' 255 "$pct" destroy $b
says 'naming the lock' 'CT is locked (create)'
says 'and the way out' "'pct unlock $b', then 'pct destroy $b'"
does 'start is refused' 255 "$pct" start $b
does 'unlock' 0 "$pct" unlock $b
does 'a second unlock' 255 "$pct" unlock $b
says 'finds none' 'no lock found trying to remove any lock'
touch /var/lib/vz/images/$b/of-somebody-else
does 'destroy' 0 "$pct" destroy $b
[ "$(ls /var/lib/vz/images/$b)" = of-somebody-else ] &&
    [ -z "$(ls /var/lib/lxc /etc/pve/lxc/ /etc/pve/local/lxc-holds |
        grep "$b")" ]
ok $? 'removes what the create made, and nothing else'
rm -r /var/lib/vz/images/$b
does 'unlock of none' 2 "$pct" unlock $b

# A tree deeper than any path, and than we have descriptors for.
does 'create' 0 "$pct" create $b $tiny --rootfs local:0
(
    cd "/var/lib/vz/images/$b/subvol-$b-disk-0.subvol" &&
        perl -e 'for (1 .. 1500) { mkdir "d" and chdir "d" or die }'
)
does 'destroy of a deep tree' 0 "$pct" destroy $b
[ ! -e /var/lib/vz/images/$b ]
ok $? 'leaves nothing'

# ---- images and mount points ------------------------------------------------

mkdir "$work/host"
echo host >"$work/host/file"
does 'create with an image and mount points' 0 "$pct" create $c $tiny \
    --rootfs local:0.05 --mp0 "$work/host,mp=/deep/er/bind,ro=1" \
    --mp1 'local:0,mp=/deep' --mp2 'local:0.05,mp=/data,mountoptions=noexec'
does 'start' 0 "$pct" start $c
does 'exec' 0 "$pct" exec $c -- sh -c \
    'cat /deep/er/bind/file; mount; touch /root/kept /data/x'
says 'the bind mount is there' 'host'
says 'with its options' ' on /data type ext4 (rw,noexec'
does 'a read-only mount point refuses' 1 \
    "$pct" exec $c -- touch /deep/er/bind/x
grep -q "/$c/" /proc/mounts
ok $((! $?)) 'the host sees none of it'
does 'stop' 0 "$pct" stop $c
does 'start' 0 "$pct" start $c
does 'what was written is there' 0 "$pct" exec $c -- cat /root/kept
does 'stop' 0 "$pct" stop $c
until_true sh -c "! losetup -a | grep -q 'vm-$c-'"
ok $? 'no loop device is left'
sed -i 's,mp=/deep/er/bind,mp=/way/bind,' /etc/pve/lxc/$c.conf
ln -s /etc "/var/lib/vz/images/$c/subvol-$c-disk-1.subvol/way"
sed -i 's,mp=/way/bind,mp=/deep/way/bind,' /etc/pve/lxc/$c.conf
does 'a link in the way of a mount point' 255 "$pct" start $c
says 'is not followed' 'mp0: symlink encountered at: /deep/way/bind'
does 'destroy' 0 "$pct" destroy $c

# ---- wishes -----------------------------------------------------------------

does 'the lowest free id' 0 "$pct" create $tiny --rootfs local:0 --state stopped
says 'is chosen' 'created CT 100'
"$pct" start 100
grep -qx 'state: started' /etc/pve/lxc/100.conf
ok $? 'start keeps the wish in step'
"$pct" stop 100
grep -qx 'state: stopped' /etc/pve/lxc/100.conf
ok $? 'stop keeps the wish in step'
does 'destroy' 0 "$pct" destroy 100

echo "1..$count"
test $failures = 0
