"""Files to add as documents, and the rows they become."""

from io import StringIO

from django.core.management import CommandError, call_command
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from assistant.models import Document


def add(*paths, **options):
    """Run the command and return what it says, to stdout and stderr together."""
    output = StringIO()
    try:
        call_command("add_documents", *paths, stdout=output, stderr=output, **options)
    except CommandError as error:
        output.write(str(error))
    return output.getvalue()


def rows():
    return list(Document.objects.order_by("pk").values_list("source", "title", "text"))


def write_pdf(path, text="", **encryption):
    writer = PdfWriter()
    page = writer.add_blank_page(200, 200)
    font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1")})
    font[NameObject("/BaseFont")] = NameObject("/Helvetica")
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F"): writer._add_object(font)})}
    )
    content = DecodedStreamObject()
    content.set_data(f"BT /F 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    if encryption:
        writer.encrypt(**encryption)
    writer.write(path)
