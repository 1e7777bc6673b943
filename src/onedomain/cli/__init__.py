"""The command `onedomain`: one file per verb. Knows people; speaks to a running edge through control/."""
