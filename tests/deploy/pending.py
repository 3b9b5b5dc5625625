"""What deploy/ uses and the program does not have yet.

A name that it has by now must leave this file; with the last one the file goes, and what asks it.
"""

# Variables of a subcommand.
VARIABLES = {
    "gateway": {"RUNNEL_SEGMENTATION", "RUNNEL_REDIS"},
    "segmentation": {"RUNNEL_POSTGRES", "RUNNEL_POSTGRES_NO_MIGRATION", "RUNNEL_POSTGRES_CONNECTIONS", "RUNNEL_REDIS"},
}
