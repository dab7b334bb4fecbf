"""Documents of the search."""

from django.db import models


class Document(models.Model):
    """A searchable text. `source` identifies its origin and is unique: adding it again replaces it."""

    source = models.CharField(max_length=500, unique=True, help_text="A path, an address, or any name that stays.")
    title = models.CharField(max_length=300)
    text = models.TextField()
    url = models.URLField(max_length=1000, blank=True, help_text="Where a reader finds it.")
    credit = models.CharField(max_length=300, blank=True, help_text="Author and licence, shown with the result.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title
