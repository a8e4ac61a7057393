"""The Kernex agent: installs bundles on a device, keeps them running, and can always go back.

Rooms, from the pure rules at the top to the daemon at the bottom; each imports only from rooms above it:

    errors config log files          what everything stands on
    signing manifest paths backoff   pure rules, no input or output
    identity sequence journal        what the device remembers, fsynced
    reports inbox steps              what changes in the journal when something is said or heard
    transport control_plane          the only way out
    processes execution supervisor   what runs on the device
    blobs releases preflight health  the parts of an installation
    fetching programs switching      its three acts, and installer, which knows their order
    enrolment line asking bake       what else the daemon does
    daemon status main               the daemon and its command line
"""

__version__ = "0.1.0"
