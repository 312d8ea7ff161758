"""What can go wrong with a whole run, and which of it trying again may mend.

It knows no task.
"""


class KnowledgeError(RuntimeError):
    """The run can't be planned or committed as things are; nothing was changed, and trying again won't mend it."""


class SyncError(RuntimeError):
    """A step could not be finished; nothing committed is lost, and the next run takes it up again."""


class IncompleteSyncError(SyncError):
    """Some documents were not written: what could be done is done, and the same run can't do more."""


class OvertakenError(SyncError):
    """Another run planned, or the knowledge base was cleared, since this run listed or planned: nothing was changed."""
