"""The admin's forms: an agent, and documents to add."""

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget, AdminURLFieldWidget
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat

from assistant.admin import readiness
from assistant.models import Agent
from assistant.search import uploads
from assistant.search.html import ParsedDocument
from assistant.search.readers import MAX_TITLE_CHARS, DocumentError, clean_text
from assistant.tools import toolbox


class AgentForm(forms.ModelForm):
    """Validates an agent before its first caller does."""

    tools = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="Tools that the model may call while it answers."
    )

    class Meta:
        model = Agent
        fields = "__all__"  # noqa: DJ007  # an operator may edit all of it
        widgets = {"groups": forms.CheckboxSelectMultiple}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "tools" not in self.fields:  # users who may only view the agent have no such field
            return
        known = {tool.name: f"{tool.name}: {tool.description.splitlines()[0]}" for tool in toolbox.all_tools()}
        kept = {name: f"{name} (not installed, or disabled)" for name in self.instance.tools if name not in known}
        self.fields["tools"].choices = [*known.items(), *kept.items()]  # type: ignore[attr-defined]  # of the field

    def clean_model(self) -> str:
        name: str = self.cleaned_data["model"]
        if name and (problem := readiness.model_problem(name)):
            raise ValidationError(problem)
        return name

    def clean_tools(self) -> list[str]:
        chosen: list[str] = self.cleaned_data["tools"]
        if problem := readiness.tools_problem(chosen):
            raise ValidationError(problem)
        return chosen


class FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        return [super(FilesField, self).clean(file, initial) for file in data or []]


class AddDocumentsForm(forms.Form):
    """Files, or a text; an error in any of them refuses all."""

    uploaded = FilesField(required=False, label="Files")
    title = forms.CharField(required=False, max_length=MAX_TITLE_CHARS, widget=AdminTextInputWidget)
    text = forms.CharField(required=False, widget=AdminTextareaWidget(attrs={"rows": 12, "dir": "auto"}))
    source = forms.CharField(
        required=False,
        max_length=490,
        widget=AdminTextInputWidget,
        help_text="A path, an address, or any stable name; defaults to the title.",
    )
    url = forms.URLField(
        required=False,
        max_length=1000,
        label="URL",
        widget=AdminURLFieldWidget,
        help_text="The address that readers see.",
    )
    credit = forms.CharField(
        required=False,
        max_length=300,
        widget=AdminTextInputWidget,
        help_text="Author and licence, shown with each result; for files, too.",
    )
    replace = forms.BooleanField(
        required=False,
        label="Replace documents of the same source",
        help_text="Otherwise an upload with a stored source is refused.",
    )

    FIELDSETS = (
        ("Files", {"fields": ["uploaded"]}),
        ("Or a text", {"fields": ["title", "text", "source", "url"]}),
        ("For all documents", {"fields": ["credit", "replace"]}),
    )

    def __init__(self, *args: Any, max_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_bytes = max_bytes
        files = self.fields["uploaded"]
        files.widget.attrs |= {"accept": ",".join(uploads.FILE_TYPES), "data-most-bytes": max_bytes}
        files.help_text = (
            f"Text, Markdown, or JSON lines ({', '.join(uploads.FILE_TYPES)}) in UTF-8, in total up to"
            f" {filesizeformat(max_bytes)}. Each JSON line is an object with title and text and, optionally, source,"
            f" url and credit; at most {uploads.MAX_DOCUMENTS:,} documents. A long text is split into passages."
        )

    def clean_uploaded(self) -> list[UploadedFile]:
        files: list[UploadedFile] = self.cleaned_data["uploaded"]
        if sum(file.size or 0 for file in files) > self.max_bytes:
            raise ValidationError(f"These files are larger than {filesizeformat(self.max_bytes)} in total.")
        return files

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        if bool(data["uploaded"]) == bool(data["text"]):
            raise ValidationError("Choose files or paste a text with its title, not both.")
        if data["text"] and not data["title"]:
            raise ValidationError({"title": "A text needs a title."})
        try:
            data["entries"] = self.read_files() if data["uploaded"] else [self.read_text()]
        except uploads.UploadError as error:
            raise ValidationError({"uploaded": error.messages}) from None
        except DocumentError as reason:
            raise ValidationError({"text": f"The text can't be added: {reason}."}) from None
        return data

    def read_files(self) -> list[uploads.PendingDocument]:
        """Raise `UploadError` with the errors of all files."""
        documents: list[uploads.PendingDocument] = []
        reasons: list[str] = []
        for file in self.cleaned_data["uploaded"]:
            try:
                documents += uploads.parse_file(file.name, file.read(), credit=self.cleaned_data["credit"])
            except uploads.UploadError as error:
                reasons += error.reasons
        if reasons:
            raise uploads.UploadError(reasons)
        return documents

    def read_text(self) -> uploads.PendingDocument:
        data = self.cleaned_data
        reading = ParsedDocument(data["title"], clean_text(data["text"].replace("\r\n", "\n")))
        source = data["source"] or data["title"]
        return uploads.make_pending(data["title"], reading, source=source, url=data["url"], credit=data["credit"])

    def store(self) -> uploads.UploadSummary:
        """Store the documents. Raises `UploadError`."""
        return uploads.store(self.cleaned_data["entries"], replace=self.cleaned_data["replace"])
