"""`python -m uphold` is `uphold`."""

from uphold.cli.main import main

if __name__ == "__main__":
    main()
