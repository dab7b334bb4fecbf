// The admin's form for documents: says that files are too large before they are sent, since the server refuses them unread.

const files = document.querySelector("[data-most-bytes]");
const most = Number(files.dataset.mostBytes);

files.addEventListener("change", () => {
  const size = [...files.files].reduce((sum, file) => sum + file.size, 0);
  const megabytes = (size / 1024 / 1024).toFixed(1);
  files.setCustomValidity(size > most ? `These files have ${megabytes} MB, which is too much at once.` : "");
  files.reportValidity();
});
