"""Where the tasks of a run are computed: in this process, or in worker processes of this machine."""
