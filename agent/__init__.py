"""The Kernex agent: installs bundles on a device, keeps them running, and can always roll back.

Packages, from the top down. Each imports only from the lines below it:

    main daemon once status             the command line, the daemon and its threads
    local_requests running_bundles      requests from other processes on the device; the bundles in a heartbeat
    install                             an installation: download, preflight checks, switch, rollback
    programs                            the programs of bundles: start, stop, health, crash loops
    releases                            the installed releases and their blobs
    server                              all requests to the server: signatures, enrolment, the session
    jobs                                the journal: jobs, reports and commands
    manifest machine state_dir log      the manifest, the hardware, the state directory, the agent's log
    config paths atomic_files errors    used by all other modules
"""

__version__ = "0.1.0"
