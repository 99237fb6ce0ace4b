"""From recordings of any length to transcripts, each by the adapter that was asked for or that suits."""
