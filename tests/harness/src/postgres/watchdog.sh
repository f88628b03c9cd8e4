# Runs a throw-away PostgreSQL until standard input closes. That is a pipe from the test process, which the
# kernel closes however that process ends, also after kill -9. The cluster is then shut down at once and its
# folder removed. This shell leads a process group of its own.
#
# $1: the cluster's folder   $2: the folder of PostgreSQL's programs   $3: the port

exec 3<&0 </dev/null

# SIGQUIT is PostgreSQL's immediate shutdown. It goes to every process of the group except this shell, and is
# repeated because a process that has just started might miss it.
trap : QUIT
{
    trap '' QUIT
    read -r _ <&3
    while :; do
        kill -QUIT 0
        sleep 1
    done
} &

# No fsync, for speed: it only matters if the machine goes down, and the tests only kill the server under test.
# A commit is still written before it is acknowledged, as in production.
"$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C --no-sync &&
    "$2/postgres" -D "$1/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$1" \
        -c max_connections=300 -c shared_buffers=64MB -c fsync=off

trap '' QUIT
rm -rf "$1"
kill "$!"
