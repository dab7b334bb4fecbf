// The admin's form for documents: refuses files that are too large before they are sent, since the server would.

const files = document.querySelector("[data-most-bytes]");
const most = Number(files.dataset.mostBytes);

files.addEventListener("change", () => {
  const size = [...files.files].reduce((sum, file) => sum + file.size, 0);
  const megabytes = (size / 1024 / 1024).toFixed(1);
  files.setCustomValidity(size > most ? `These files have ${megabytes} MB, which is too much: choose fewer.` : "");
  files.reportValidity();
});
