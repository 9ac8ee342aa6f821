"""What our viewers need of aiortc and aioice beyond their public interface. Each module names the private
parts that it touches; they are those of aiortc 1.16, which pyproject.toml pins."""
