/** The help dialog. Closes on Esc, its button, or a click outside. */

export class Help {
  constructor({ dialog, open, close }) {
    this.dialog = dialog;
    open.addEventListener("click", () => this.show());
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  }

  get open() {
    return this.dialog.open;
  }

  show() {
    this.dialog.showModal();
  }
}
