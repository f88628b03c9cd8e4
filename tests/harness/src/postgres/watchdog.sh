# Runs a throw-away PostgreSQL for as long as standard input stays open. That is a pipe held by the test
# process, which the kernel closes however that process ends, kill -9 included; then the cluster is shut
# down at once and its folder removed. This shell leads a process group of its own.
#
# $1: the cluster's folder   $2: the folder of PostgreSQL's programs   $3: the port

exec 3<&0 </dev/null

# SIGQUIT is PostgreSQL's immediate shutdown. It is for everything in the group but this shell, and is
# repeated because a process that has only just started might miss it.
trap : QUIT
{
    trap '' QUIT
    read -r _ <&3
    while :; do
        kill -QUIT 0
        sleep 1
    done
} &

# No fsync, for speed: it matters when the machine goes down, and our tests kill only the server under test.
# A commit is still written out before it is answered, as in earnest.
"$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C --no-sync &&
    "$2/postgres" -D "$1/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$1" \
        -c max_connections=300 -c shared_buffers=64MB -c fsync=off

trap '' QUIT
rm -rf "$1"
kill "$!"
