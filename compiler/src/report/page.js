for (const box of document.querySelectorAll("input[data-filter]")) {
  box.hidden = false;
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll(".tensors tbody tr")) {
      const name = row.firstElementChild.textContent.toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
    }
  });
}
