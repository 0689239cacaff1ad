# shellcheck shell=bash
# Sourced by `submit` and by the job scripts: values of the site, checks, launchers, and what happens when a job must end.

# What is wrong with the site or the flags ends here, before anything is launched.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# Reads the values of the site and checks those that can be checked on a login node too.
load_site() {
    SITE=${JEOPARDA_TF_SITE:-$JOBS/site.env}
    [ -f "$SITE" ] || fail "no values of the site: copy $JOBS/site.env.example or one of $JOBS/sites/ to $SITE, then edit it"
    # shellcheck disable=SC2034 # used by `submit`
    ALL=() CONVERT=() CONVERT_MPI=() FIT=() EVALUATE=() PREDICT=() MODULES=() ENVIRONMENT=() LAUNCH_OPTIONS=()
    CONVERT_TASKS=16 VENV='' LAUNCHER=srun INTERFACE=''
    # shellcheck source=/dev/null
    source "$SITE" || fail "$SITE cannot be read as a shell script"
    case $LAUNCHER in
        srun | horovodrun | mpirun) ;;
        *) fail "LAUNCHER=$LAUNCHER in $SITE: srun, horovodrun and mpirun are known" ;;
    esac
    [[ $CONVERT_TASKS =~ ^[1-9][0-9]*$ ]] || fail "CONVERT_TASKS=$CONVERT_TASKS in $SITE: must be a number from 1 on"
    [ -z "$VENV" ] || [ -x "$VENV/bin/python" ] ||
        fail "VENV=$VENV in $SITE: no bin/python there; \`make venv\` in the repository makes .venv"
}

# Prints the value of --FLAG VALUE or --FLAG=VALUE among the other arguments; nothing where it is not.
value_of() {
    local flag=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            "$flag") echo "${2:-}" && return ;;
            "$flag"=*) echo "${1#*=}" && return ;;
        esac
        shift
    done
}

# Fails unless the input of a kind of job is there.
check_input() {
    local kind=$1 folder
    shift
    case $kind in
        convert*)
            [ $# -ge 2 ] || fail "convert needs ARCHIVE and SHARDS"
            [ -e "$1" ] || fail "no archive at $1"
            ;;
        fit)
            folder=$(value_of --data "$@")
            [ -z "$folder" ] || [ -f "$folder/manifest.json" ] ||
                fail "--data $folder: no manifest.json there; convert the archive first"
            ;;
        *)
            folder=$(value_of --workdir "$@")
            [ -z "$folder" ] || [ -f "$folder/model.json" ] ||
                fail "--workdir $folder: no model.json there; fit a model first"
            ;;
    esac
}

# Makes the environment of a job ready; the arguments are the Python packages it needs.
prepare() {
    load_site
    local setting package
    if [ ${#MODULES[@]} -gt 0 ]; then
        type module >/dev/null 2>&1 || fail "MODULES in $SITE, but there is no command \`module\` on $(hostname)"
        # Scripts of module systems use variables that are not set.
        set +u
        module load "${MODULES[@]}" || fail "MODULES in $SITE: \`module load ${MODULES[*]}\` failed"
        set -u
    fi
    [ -z "$VENV" ] || export PATH=$VENV/bin:$PATH
    for setting in "${ENVIRONMENT[@]}"; do
        [[ $setting =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || fail "ENVIRONMENT in $SITE: \"$setting\" is not NAME=value"
        export "${setting?}"
    done
    if [ -n "$INTERFACE" ]; then
        [ -d "/sys/class/net/$INTERFACE" ] || fail "INTERFACE=$INTERFACE in $SITE: $(hostname) has $(ls -x /sys/class/net)"
        export NCCL_SOCKET_IFNAME=$INTERFACE HOROVOD_GLOO_IFACE=$INTERFACE OMPI_MCA_btl_tcp_if_include=$INTERFACE
    fi
    # srun does not take it from the job since Slurm 22.05.
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    PYTHONPATH=$(dirname "$JOBS")${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
    command -v python >/dev/null || fail "no python on $(hostname): set VENV or MODULES in $SITE"
    for package in "$@"; do
        python -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$package'))" ||
            fail "$(command -v python) has no package $package: set VENV or MODULES in $SITE"
    done
}

# Runs a command on all tasks of the job, one rank each, by the launcher of the site.
on_ranks() {
    command -v "$LAUNCHER" >/dev/null || fail "LAUNCHER=$LAUNCHER in $SITE is not installed on $(hostname)"
    # srun: ranks that stop end on their own, with 75; those that hang after another's end are killed after a minute.
    case $LAUNCHER in
        srun) supervise srun --kill-on-bad-exit=0 --wait=60 "${LAUNCH_OPTIONS[@]}" "$@" ;;
        mpirun) supervise mpirun -np "${SLURM_NTASKS:-1}" "${LAUNCH_OPTIONS[@]}" "$@" ;;
        horovodrun)
            [ "${SLURM_JOB_NUM_NODES:-1}" -eq 1 ] ||
                fail "LAUNCHER=horovodrun in $SITE is for one node, this job has $SLURM_JOB_NUM_NODES: take srun or mpirun"
            supervise horovodrun -np "${SLURM_NTASKS:-1}" "${LAUNCH_OPTIONS[@]}" "$@"
            ;;
    esac
}

# Runs a command until its end; asked to stop, passes that on, waits, and puts the job back into the queue, unless it was
# cancelled.
supervise() {
    local code=0 previous=0 child=''
    STOP='' ASKED='' CANCELLED=''
    trap 'STOP=1 ASKED=1; pass_on "$child"' USR1
    # At the walltime USR1 has come before.
    trap '[ -n "$STOP" ] || ! is_cancelled || CANCELLED=1; STOP=1 ASKED=1; pass_on "$child"' TERM
    "$@" &
    child=$!
    [ -z "$STOP" ] || pass_on "$child"
    # A signal ends `wait`, not the child: wait again. 127: the child's code was known before the signal came.
    while :; do
        ASKED='' previous=$code code=0
        wait "$child" || code=$?
        [ "$code" -ne 127 ] || code=$previous
        [ -n "$ASKED" ] || break
    done
    # 75: stopped with a checkpoint, also where Slurm signalled the ranks themselves. horovodrun returns 1 then.
    if [ -n "$CANCELLED" ]; then
        printf 'jobs: ended with %s; job %s was cancelled, and does not go back into the queue\n' "$code" "$SLURM_JOB_ID" >&2
    elif [ "$code" -eq 75 ] || { [ -n "$STOP" ] && [ "$code" -ne 0 ]; }; then
        printf 'jobs: ended with %s when asked to stop; job %s goes back into the queue\n' "$code" "$SLURM_JOB_ID" >&2
        scontrol requeue "$SLURM_JOB_ID" || fail "job $SLURM_JOB_ID cannot be requeued: submit the same command again"
    fi
    return "$code"
}

# Whether Slurm is ending the job, and not to make room for another one: somebody has cancelled it.
is_cancelled() {
    local job
    job=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null) || return 1
    [[ $job =~ JobState=(COMPLETING|CANCELLED) && ! $job =~ PreemptTime=[0-9] ]]
}

# SIGUSR1 for the ranks. srun and mpirun pass it on themselves (SIGTERM would make srun kill); horovodrun would die of it.
pass_on() {
    echo "jobs: asked to stop at $(date -u +%H:%M:%S) UTC" >&2
    if [ "$LAUNCHER" = horovodrun ]; then
        signal_ranks "$1"
    else
        kill -USR1 "$1" 2>/dev/null || true
    fi
}

# Finds the ranks among a process and all that descend from it.
signal_ranks() {
    local child
    if tr '\0' ' ' <"/proc/$1/cmdline" | grep -Eq '^[^ ]*python[0-9.]* -u -m jeoparda_tf\.'; then
        kill -USR1 "$1" 2>/dev/null || true
        return 0
    fi
    for child in $(pgrep -P "$1"); do
        signal_ranks "$child"
    done
}
