"""The Kernex agent: installs bundles on a device, keeps them running, and can always roll back.

Packages, from the top down. Each imports only from the lines below it:

    main daemon once status             the command line, the daemon and its loops
    local_requests running_bundles      requests of other processes on the device; what heartbeats describe
    install                             the installation: download, preflight, switch, and their order
    programs                            what runs on the device: start, stop, health, crash loops
    releases                            installed bundles and their blobs
    server                              the only way to the network: signed requests, enrolment, the session
    jobs                                what the device has to do and to report, in a journal that is fsynced
    manifest machine state_dir log      what a bundle and a machine look like
    config paths atomic_files errors    what all other modules use
"""

__version__ = "0.1.0"
