"""Speech data sets: folders, lists and the Hub, behind the same rows and clips."""
