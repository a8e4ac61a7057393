"""The Kernex agent: installs bundles on a device, keeps them running, and can always go back.

Rooms, from the pure rules at the top to the daemon at the bottom; each imports only from its row and those above:

    errors config log files machine  what everything stands on
    signing manifest paths           pure rules, no input or output
    clock backoff schedule           what time it is there, and when to do something next
    identity sequence journal        what the device remembers, fsynced; state_dir, where
    reports inbox steps              what changes in the journal when something is said or heard
    transport control_plane          the only way out
    processes execution supervisor   what runs on the device
    blobs releases preflight health  the parts of an installation
    fetching programs switching      its three acts, and installer, which knows their order
    enrolment line asking bake       what else the daemon does
    daemon status main               the daemon and its command line
"""

__version__ = "0.1.0"
